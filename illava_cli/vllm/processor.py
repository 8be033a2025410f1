"""vLLM's processor of media, by our own preprocessing: pixels, counts of tokens, what replaces a marker."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import chain, product
from math import isqrt
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import BatchFeature
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdateDetails,
)

from illava_cli.config.settings import Config
from illava_cli.errors import IllavaError, UsageError
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels
from illava_cli.models.schedule import Schedule
from illava_cli.models.without_decoder import family_of_files
from illava_cli.vllm.item import FIELDS, About, as_fields, standing_as
from illava_cli.vllm.placing import advances, counts
from illava_cli.vllm.wishes import ALONE, SETTINGS, Wishes, wish_of

OFF = {"preset": "off"}
RATIO = 100  # of a picture's sides, far from what is refused
MOST_FRAMES = 64  # of a video of the largest kind, for which room is kept
KINDS = ("image", "video")


@cache
def wishes_of(folder: str, settings: str) -> Wishes:
    """One for all of a process: the files are read once."""
    config = Config.model_validate_json(settings)
    return Wishes(family_of_files(Path(folder), config.model.schedule), config)


class Parser(MultiModalDataParser):
    """Videos with what is known of their frames, where anything is; else vLLM's cache would lose it."""

    def __init__(self, **options):
        super().__init__(video_needs_metadata=True, **options)

    def _get_video_with_metadata(self, video):
        frames, metadata = super()._get_video_with_metadata(video)
        return frames, metadata or {}


class Info(BaseProcessingInfo):
    """What the model takes."""

    def get_data_parser(self) -> Parser:
        return Parser(expected_hidden_size=self._get_expected_hidden_size())

    @cached_property
    def wishes(self) -> Wishes:
        return wishes_of(self.model_id, self.get_hf_config().illava)

    @cached_property
    def gaps(self) -> dict[str, int]:
        """Positions that a medium takes up beyond its tokens, by vLLM's key of it: a number for each."""
        return {}

    @property
    def family(self) -> Family:
        return self.wishes.family

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return dict.fromkeys(self.family.markers)

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Unmerged: a request may ask for no merging, and the encoder's cache has to hold it."""
        most = {}
        for kind in mm_counts:
            size, frames = self.largest(kind, seq_len)
            most[kind] = self.unmerged(kind, size, frames)
        return most

    @cached_property
    def sizes(self) -> Sequence[tuple[int, int]]:
        return _sizes(self.family)

    def unmerged(self, kind: str, size: tuple[int, int], frames: int) -> int:
        """Tokens of a medium of which none are left out."""
        return self.family.tokens(self.family.geometry(kind, size, frames), Schedule()).total

    def largest(self, kind: str, seq_len: int) -> tuple[tuple[int, int], int]:
        """Height and width of the media with most tokens that a prompt can hold, and frames of a video."""
        sizes = self.sizes
        fits = bisect_right(sizes, seq_len, key=lambda one: self.unmerged("image", one, 1))
        size = sizes[max(0, fits - 1)]
        if kind == "image":
            return size, 1
        counts = range(1, MOST_FRAMES + 1)
        return size, max(1, bisect_right(counts, seq_len, key=lambda n: self.unmerged("video", size, n)))


def _sizes(family: Family) -> Sequence[tuple[int, int]]:
    """Height and width of pictures, those of few tokens first: what tiles may hold, or grids of groups."""
    if family.has_tiles:
        sizes = list(product(_tiled_sides(family), repeat=2))
    else:
        edge = family.patch * family.merge_size
        most = family.image_processor.size["longest_edge"] // edge**2
        sides = range(1, isqrt(most) + 1)
        sizes = [(side * edge, side * edge) for side in sides]
        sizes += [(side * edge, most // side * edge) for side in sides if most // side < RATIO * side]
    return sorted(sizes, key=lambda one: family.tokens(family.geometry("image", one), Schedule()).total)


def _tiled_sides(family: Family) -> range:
    """Sides of pictures, from which other tiles come."""
    config = family.model.config
    if hasattr(config, "image_grid_pinpoints"):
        step = config.vision_config.image_size // 4
        return range(step, max(map(max, config.image_grid_pinpoints)) + 1, step)
    return range(family.edge, family.edge * family.image_processor.max_patches + 1, family.edge)


class Dummy(BaseDummyInputsBuilder[Info]):
    """Media by which vLLM finds out how much memory is needed."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        markers = self.info.family.markers
        return "".join(markers[kind] * mm_counts.get(kind, 0) for kind in markers)

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options) -> dict:
        made: dict[str, list] = {}
        for kind, count in mm_counts.items():
            (height, width), frames = self.info.largest(kind, seq_len)
            if kind == "image":
                made[kind] = [Image.new("RGB", (width, height))] * count
            else:
                made[kind] = [np.zeros((frames, height, width, 3), np.uint8)] * count
        return made


class Processor(BaseMultiModalProcessor[Info]):
    """Media in, tensors and token counts out."""

    def get_dummy_inputs(self, seq_len, mm_counts, mm_options):
        inputs = super().get_dummy_inputs(seq_len, mm_counts, mm_options)
        inputs.hf_processor_mm_kwargs = OFF
        return inputs

    def apply(self, inputs, timing_ctx):
        """Media are kept by what was asked for them: how many images there are is a part of it."""
        asked = inputs.hf_processor_mm_kwargs
        own = self.info.ctx.get_mm_config().merge_mm_processor_kwargs(asked)
        alone = inputs.mm_data_items.get_all_counts().get("image", 0) == 1
        try:
            wish_of(own)
            settings = self.info.get_hf_config().illava
            inputs.hf_processor_mm_kwargs = dict(own) | {ALONE: alone, SETTINGS: settings}
            made = super().apply(inputs, timing_ctx)
            self._check(made, inputs.cache, dummy=asked is OFF)
        except IllavaError as error:
            raise ValueError(str(error)) from error  # which the server answers with 400
        return made

    def _check(self, made, cache, *, dummy: bool) -> None:
        """Refuse a prompt that would be answered wrongly.

        Args:
            dummy: nobody's question, as long as it can be.
        """
        try:
            self._check_placeholders(made)
            if not dummy:
                self._check_positions(made)
        except UsageError:
            # vLLM's cache counts these media as sent to its workers, which they will not be
            for key in chain.from_iterable(made["mm_hashes"].values() if cache is not None else ()):
                cache.invalidate(key)
            raise

    def _check_placeholders(self, made) -> None:
        """Refuse text that says what stands for a medium: positions would be shifted by it.

        Raises:
            UsageError: names it.
        """
        family, ids = self.info.family, made["prompt_token_ids"]
        ranges = [one for found in made["mm_placeholders"].values() for one in found]
        shown = sum(one.length if one.is_embed is None else int(one.is_embed.sum()) for one in ranges)
        placeholders = set(family.placeholder_ids.values())
        if sum(ids.count(token) for token in placeholders) > shown:
            names = " or ".join(map(family.tokenizer.convert_ids_to_tokens, sorted(placeholders)))
            raise UsageError(f"the text has {names}, which stands for a picture or a clip: leave it out")

    def _check_positions(self, made) -> None:
        """Refuse a prompt whose survivors would stand where the decoder has no position.

        Raises:
            UsageError: it is too long, unmerged.
        """
        length = tokens_left = len(made["prompt_token_ids"])
        for kind, items in made["mm_kwargs"].items():
            for key, fields in zip(made["mm_hashes"][kind], items, strict=True):
                if fields is not None:  # else vLLM's cache has it, and so it was here before
                    advance, tokens = (fields[f"{kind}_{name}"].data for name in ("advance", "tokens"))
                    self.info.gaps[key] = int(advance.sum() - tokens.sum())
                length += self.info.gaps.get(key, 0)
        model = self.info.ctx.model_config  # whose length a scaled rope may have made larger
        most = max(model.hf_text_config.max_position_embeddings, model.max_model_len)
        if length > most >= tokens_left:  # a prompt of too many tokens is vLLM's to refuse
            raise UsageError(
                f"the prompt's positions go to {length}, as tokens that stay keep theirs, and the model has "
                f"{most}: ask about fewer or smaller media, or set positions: packed"
            )

    def _apply_hf_processor_main(self, mm_items, hf_kwargs: Mapping[str, object]) -> BatchFeature:
        wish, alone = wish_of(hf_kwargs), bool(hf_kwargs.get(ALONE, True))
        found: dict[str, list] = {}
        for kind in KINDS:
            items = mm_items.get(kind)
            for index in range(items.get_count() if items is not None else 0):
                medium, times = _medium(items, kind, index)
                pixels, about = self._seen(kind, medium, times, wish, alone)
                schedule = self.info.wishes.of(wish).rules.schedule(pixels)
                tokens = counts(self.info.family, pixels, schedule)
                advance = advances(self.info.family, pixels, schedule, tokens)
                for name, value in as_fields(pixels, about, advance, tokens).items():
                    found.setdefault(f"{kind}_{name}", []).append(value)
        return BatchFeature(found)

    def _seen(self, kind, medium, times, wish: str, alone: bool) -> tuple[Pixels, About]:
        family, asked = self.info.family, self.info.wishes.of(wish)
        if kind == "image":
            alone = alone or asked.media.tile_each
            pixels = family.preprocess_image(medium, asked.media, alone)
            size, frames = (medium.height, medium.width), 1
        else:
            size, frames = medium[0].shape[:2], len(medium)
            sized = [family.resize_frame(frame, frames, asked.media) for frame in medium]
            pixels = family.preprocess_video(sized).timed(times)
            pixels = replace(pixels, budget=asked.media.video_budget)
        pixels = asked.rules.admitted(pixels)
        return pixels, About(kind, size, frames, alone, wish, pixels.document, pixels.times)

    def _get_mm_fields_config(self, hf_inputs, hf_processor_mm_kwargs) -> Mapping[str, MultiModalFieldConfig]:
        return {
            f"{kind}_{name}": MultiModalFieldConfig.batched(kind, keep_on_cpu=name != "values")
            for kind in KINDS
            for name in FIELDS
        }

    def _get_prompt_updates(self, mm_items, hf_processor_mm_kwargs, out_mm_kwargs) -> Sequence:
        family, tokenizer = self.info.family, self.info.get_tokenizer()

        def replacement(kind: str, index: int) -> PromptUpdateDetails:
            fields = out_mm_kwargs[kind][index]
            about = About.unpacked(fields[f"{kind}_about"].data)
            entered, asked = fields[f"{kind}_entered"].data, self.info.wishes.of(about.wish)
            medium = standing_as(family, about, entered, asked.media)
            left = iter(fields[f"{kind}_tokens"].data.tolist())
            placeholder = family.placeholder_ids[kind]
            ids = tokenizer.encode(family.marker(kind, medium), add_special_tokens=False)
            filled = [own for token in ids for own in [token] * (next(left) if token == placeholder else 1)]
            return PromptUpdateDetails.select_token_id(filled, placeholder)

        return [
            PromptReplacement(
                modality=kind,
                target=tokenizer.encode(family.markers[kind], add_special_tokens=False),
                replacement=lambda index, kind=kind: replacement(kind, index),
            )
            for kind in family.markers
        ]


def _medium(items, kind: str, index: int):
    """A picture, or a video's frames (H, W, 3) uint8 with their seconds.

    Raises:
        UsageError: arrays of another form.
    """
    medium = items.get(index)
    if kind == "image":
        return medium if isinstance(medium, Image.Image) else Image.fromarray(_coloured(medium)), ()
    frames, metadata = medium
    frames = [_coloured(frame) for frame in frames]
    rate, indices = metadata.get("fps"), metadata.get("frames_indices")
    times = [n / rate for n in indices] if rate and indices is not None and len(indices) else ()
    return frames, times


def _coloured(picture) -> np.ndarray:
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UsageError(f"pictures are (height, width, 3) uint8 here, not {array.shape} {array.dtype}")
    return array
