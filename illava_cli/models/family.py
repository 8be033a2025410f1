"""What the engine asks of a model family, and what all families share.

A family turns media into segments of pixels, runs them through its tower with the merge points, and
lays the survivors out as decoder tokens with their places in the unmerged sequence.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from illava_cli.config import (
    GuideStage,
    InputStage,
    LLMByMedium,
    LLMStage,
    MediaOptions,
    Reduction,
    VisionByMedium,
    VisionStage,
    near_miss,
)
from illava_cli.errors import UsageError
from illava_cli.families import family_name
from illava_cli.models.cache import MergePoint
from illava_cli.models.control_tokens import ControlTokens
from illava_cli.models.decoder import compile_decoder
from illava_cli.models.frames import resized
from illava_cli.models.host import to_device
from illava_cli.models.shape import Expansion, Projector, TowerShape
from illava_cli.models.survivors import Survivors, share, thinned
from illava_cli.models.vision import TowerState, compile_blocks
from illava_cli.reduction import METHODS, Merge, Method
from illava_cli.trace import Tracing, View

IMAGES_ONLY = "this model takes images only: give single frames of the video with --image"


@dataclass(frozen=True)
class Pixels:
    """A preprocessed medium: `segments` of equal shape, their pixels made when they are needed.

    Args:
        kind: `image` or `video`.
        segments: tiles, frames or temporal groups that go through the tower.
        tokens: tower tokens of a segment (patches, or 2x2 groups).
        shape: segments of the same shape may share a pass through the tower.
        pixel_values: `(start, stop) -> Tensor`, float32 on the CPU.
        geometry: the family's own.
        interval: seconds from one frame of a video to the next, where they are known.
    """

    kind: str
    segments: int
    tokens: int
    shape: tuple[int, ...]
    pixel_values: Callable[[int, int], Tensor]
    geometry: Any
    interval: float | None = None


@dataclass(frozen=True)
class Features:
    """A medium as decoder tokens.

    Args:
        embeds: (T, C) image tokens and newlines in their order.
        kinds: (T,) `VISUAL` or `NEWLINE`.
        rankable: (T,) True for tokens that may merge in the decoder.
        candidates: how many of them there are.
        place: (T,) place of each token in the medium's unmerged sequence.
        length: unmerged length.
        grid, interval: Qwen's (t, h, w) in patches, and the seconds from one t to the next.
        patches, vision_kept, visual, newlines: counts for the record.
        merges, attention: of each tower layer, where they are traced.
        layout: the tokens of all segments, one segment behind another, to these, where it is traced;
            a newline is a slot that no token enters.
    """

    embeds: Tensor
    kinds: Tensor
    rankable: Tensor
    candidates: int
    place: Tensor
    length: int
    patches: int
    vision_kept: int
    visual: int
    newlines: int
    grid: tuple[int, int, int] | None = None
    interval: float | None = None
    merges: dict[int, Merge] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    layout: Merge | None = None

    def untraced(self) -> Features:
        """Without what a trace has kept of their way."""
        return replace(self, merges={}, attention={}, layout=None)


class Family(ABC):
    """One model family around a loaded `transformers` model."""

    key: str  # `model_type` of its checkpoints
    stock_class: ClassVar[type]  # of `transformers`, which we load and extend
    image_processor_class: ClassVar[type]  # the PIL one: torchvision need not be there
    rope_axes = 1
    special_tokens: ClassVar[dict[str, str]]  # `NAME_token_id` of its config -> the token
    markers: ClassVar[dict[str, str]]  # how `<image>` and `<video>`, if it takes them, stand in its prompts
    encodes_apart = False  # whether a run of text between media is tokenized by itself
    patches_per_token = 1
    class_tokens = 0  # of the tower, before the patches
    frames_of_one_size = False  # a region of a frame has as many tokens as all of it

    def __init__(self, model: nn.Module, tokenizer, image_processor, video_settings: dict, chunk_bytes: int):
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.video_settings = video_settings
        self.chunk_bytes = chunk_bytes
        self.text_model = model.model.language_model
        self.text_config = model.config.text_config
        self.prepare()

    # --- what a family says -----------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None:
        """Bind the loops to the loaded model."""

    @property
    @abstractmethod
    def tower_layers(self) -> int:
        """Tower layers that are run."""

    @property
    @abstractmethod
    def placeholder_ids(self) -> dict[int, str]:
        """Token id of a placeholder -> kind of its medium."""

    @abstractmethod
    def prepare_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        """Preprocess an RGB image; `alone`: it is taken as the only image of its turn."""

    def prepare_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        """`prepare_image` for a region of one of size `whole` (height, width), for its share of tokens."""
        return self.prepare_image(image, options, alone)

    def resize_region(self, frame: np.ndarray, whole: tuple[int, int]) -> np.ndarray:
        """`resize_frame` for a region of a frame of size `whole` (height, width)."""
        return self.resize_frame(frame)

    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that the tower wants of a video's frames.

        Raises:
            UsageError: the family takes images only.
        """
        raise UsageError(IMAGES_ONLY)

    def resize_frame(self, frame: np.ndarray) -> np.ndarray:
        """A frame (H, W, 3) uint8 at its `frame_size`, uint8."""
        return resized(frame, self.frame_size(*frame.shape[:2]))

    def prepare_video(self, frames: list[np.ndarray]) -> Pixels:
        """Preprocess frames from `resize_frame`."""
        raise UsageError(IMAGES_ONLY)

    @abstractmethod
    def budget(self, stage: VisionStage, tokens: int) -> dict[int, int]:
        """Tokens removed at each tower layer from a segment of `tokens`, checked."""

    @abstractmethod
    def run_tower(self, pixels: Pixels, pixel_values: Tensor, state: TowerState) -> Tensor:
        """A chunk of segments through tower and projector -> (B, M, C)."""

    @abstractmethod
    def lay_out(self, pixels: Pixels, survivors: Survivors, reduction: Reduction) -> Features:
        """The survivors of one medium as decoder tokens."""

    @abstractmethod
    def views(self, pixels: Pixels) -> list[View]:
        """What each segment shows of the picture."""

    @abstractmethod
    def tower_shape(self) -> tuple[TowerShape, Projector]:
        """The widths of tower and projector."""

    @abstractmethod
    def stock_tokens(self, pixels: Pixels) -> Expansion:
        """Decoder tokens that stand for a medium in the unmodified model."""

    @abstractmethod
    def stock_inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        """What the unmodified model takes of the media of all rows together, `pixel_values` and so on."""

    @abstractmethod
    def stock_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        """Run the unmodified model's tower and projector alone."""

    @property
    @abstractmethod
    def own_preset(self) -> str:
        """The shipped preset that was made for this model."""

    @abstractmethod
    def tower_blocks(self) -> Iterable[nn.Module]:
        """The tower's blocks, in order."""

    @abstractmethod
    def bytes_per_token(self) -> int:
        """Activations of the tower per token, roughly."""

    @classmethod
    def tokenizer_folder(cls) -> str:
        """The shipped toy tokenizer of this family's `random:` models."""
        return cls.key.replace("_", "-")

    def windows(self, pixels: Pixels, layer: int) -> Tensor | None:
        """(tokens,) the window within which each token attends in a tower layer; None: all of its segment."""
        return None

    def outside(self, pixels: Pixels) -> Tensor | None:
        """(segments, tokens) padding of the image; None where a family or a form of medium has none."""
        return None

    def padding(self, pixels: Pixels, reduction: Reduction) -> Tensor | None:
        """(segments, tokens) image padding that leaves first; None where none does."""
        return None

    def condense(self, pixels: Pixels, survivors: Survivors, reduction: Reduction) -> Survivors:
        """What is done to each segment alone, chunk by chunk: no more is kept than the decoder takes."""
        return survivors

    @classmethod
    def schedule_key(cls, hidden_size: int) -> str:
        """The entry of a preset like `auto` that fits a decoder of this width."""
        return cls.key

    def positions(self, length: int, media: list[tuple[int, Features]]) -> Tensor:
        """Position ids of an unmerged chunk: (1, length), or (3, length) for M-RoPE.

        Args:
            media: where each medium starts in the chunk, in order.
        """
        return torch.arange(length)[None]

    # --- shared -------------------------------------------------------------------------------

    @cached_property
    def control_tokens(self) -> ControlTokens:
        """What keeps words that spell a token words."""
        return ControlTokens(self.tokenizer)

    @property
    def name(self) -> str:
        """What people call it."""
        return family_name(self.key)

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @property
    def end_ids(self) -> set[int]:
        """The tokens that end an answer."""
        end = self.model.generation_config.eos_token_id
        return set(end if isinstance(end, list) else [] if end is None else [end])

    @cached_property
    def unspoken(self) -> Tensor:
        """(vocabulary,) True for ids that no answer has: those without a token, and what stands for media.

        An output head is often padded to a round number of rows, beyond what its tokenizer has.
        """
        rows, vocabulary = self.model.get_output_embeddings().weight.shape[0], self.tokenizer.get_vocab()
        media = {vocabulary[token] for token in self.special_tokens.values() if token in vocabulary}
        media |= self.placeholder_ids.keys()
        spoken = (set(vocabulary.values()) - media) | self.end_ids
        unspoken = torch.ones(rows, dtype=torch.bool)
        unspoken[[id for id in spoken if id < rows]] = False
        return to_device(unspoken, self.device)

    def compile(self) -> None:
        """`torch.compile` tower and decoder; the first questions then take long."""
        compile_blocks(self.tower_blocks())
        compile_decoder(self.text_model)

    @staticmethod
    def guide_stage(reduction: Reduction) -> GuideStage | None:
        """The choice of frames and regions before the tower."""
        stage = reduction.guide
        if reduction.method is None:
            return stage
        if "guide" not in known_method(reduction.method).stages:
            return None
        return (stage or GuideStage()).model_copy(update={"method": reduction.method})

    def vision_stage(self, reduction: Reduction, kind: str) -> VisionStage | None:
        """The tower's schedule for a kind of medium."""
        stage = reduction.vision
        stage = getattr(stage, kind) if isinstance(stage, VisionByMedium) else stage
        if stage is None or reduction.method is None:
            return stage
        method = known_method(reduction.method)
        return stage.model_copy(update={"method": reduction.method}) if "vision" in method.stages else None

    def input_stage(self, reduction: Reduction) -> InputStage | None:
        """The reduction between projector and decoder."""
        stage = reduction.input
        if reduction.method is None:
            return stage
        stages = known_method(reduction.method).stages
        if stage is None and stages == ("input",):
            return InputStage(method=reduction.method)
        return stage.model_copy(update={"method": reduction.method}) if stage and "input" in stages else None

    def llm_stage(self, reduction: Reduction, kind: str) -> LLMStage | None:
        """The decoder's part of a reduction for a kind of medium."""
        stage = reduction.llm
        stage = getattr(stage, kind) if isinstance(stage, LLMByMedium) else stage
        if stage is None or reduction.method is None:
            return stage
        method = known_method(reduction.method)
        changed = {"method": reduction.method, "queries": method.queries or stage.queries}
        return stage.model_copy(update=changed) if "llm" in method.stages else None

    def reduces(self, reduction: Reduction) -> bool:
        """Whether any stage does anything."""
        if self.guide_stage(reduction) is not None or self.input_stage(reduction) is not None:
            return True
        stages = [
            of(reduction, kind) for of in (self.vision_stage, self.llm_stage) for kind in ("image", "video")
        ]
        return any(stage is not None and stage.layers for stage in stages)

    def merge_points(self, reduction: Reduction, kind: str) -> dict[int, MergePoint]:
        """The decoder's schedule, for a session whose leading medium is `kind`."""
        stage = self.llm_stage(reduction, kind)
        return {} if stage is None else self._llm_points(stage, reduction.variant)

    def _llm_points(self, stage: LLMStage, variant: str) -> dict[int, MergePoint]:
        method = known_method(stage.method, "llm")
        layers = self.text_config.num_hidden_layers
        keep = per_layer(stage.keep, stage.layers, "llm.keep")
        for layer in stage.layers:
            if not 1 <= layer < layers:
                raise UsageError(
                    f"llm.layers: {layer} is out of range: tokens merge before layers 1 to {layers - 1}"
                )
        if variant == "authors" and stage.queries not in (None, "last"):
            raise UsageError("llm.queries: variant 'authors' ranks by the last token: set queries: last")
        if method.queries and stage.queries not in (None, method.queries):
            raise UsageError(
                f"llm.queries: method {stage.method!r} ranks by {method.queries!r}: leave it out"
            )
        queries = stage.queries or method.queries or ("last" if variant == "authors" else "visual-literal")
        if any(k <= 0 for k in keep):
            raise UsageError("llm.keep: must be more than 0: at least one token has to stay")
        return {
            layer: MergePoint(k, stage.method, queries)
            for layer, k in zip(stage.layers, keep, strict=True)
            if k < 1
        }

    def check(self, reduction: Reduction) -> None:
        """Refuse a schedule that this model cannot run, before anything is computed."""
        guide = self.guide_stage(reduction)
        if guide is not None:
            check_guide(guide)
        for kind in ("image", "video"):
            stage = self.vision_stage(reduction, kind)
            if stage is not None:
                self.check_vision(stage, reduction)
            self.merge_points(reduction, kind)
        stage = self.input_stage(reduction)
        if stage is None:
            return
        if known_method(stage.method, "input").count is None and stage.keep is None:
            raise UsageError(f"input.keep is missing: say which share {stage.method!r} keeps")
        if stage.keep == 0:
            raise UsageError("input.keep: must be more than 0: at least one token has to stay")
        if reduction.layout == "grid":
            raise UsageError("input: its survivors keep their own place: set layout: faithful")

    def check_vision(self, stage: VisionStage, reduction: Reduction) -> None:
        """Layers and method of a tower schedule."""
        method = known_method(stage.method, "vision")
        if stage.proportional and not method.proportional:
            able = ", ".join(name for name, method in METHODS.items() if method.proportional)
            raise UsageError(f"vision.proportional: not defined for {stage.method!r}, but for {able}")
        if stage.proportional and "flash" in (self.model.config._attn_implementation or ""):
            raise UsageError("vision.proportional: FlashAttention takes no sizes: give --attn sdpa")
        for layer in stage.layers:
            if layer >= self.tower_layers:
                raise UsageError(
                    f"vision.layers: {layer} is out of range: "
                    f"the tower runs layers 0 to {self.tower_layers - 1}"
                )

    @torch.inference_mode()
    def encode(
        self, media: Sequence[Pixels], reduction: Reduction, *, trace: Tracing = False
    ) -> list[Features]:
        """Media through tower, projector and layout. Segments of one shape share passes.

        The passes are bounded in memory, so that a longer video does not need more of it.

        Args:
            trace: keep the merges of each tower layer in `Features.merges`, and the layout.
        """
        together: dict[tuple, list[int]] = {}
        for index, pixels in enumerate(media):
            stage = self.vision_stage(reduction, pixels.kind)
            key = (pixels.shape, stage.model_dump_json() if stage else None)
            together.setdefault(key, []).append(index)
        features: dict[int, Features] = {}
        for indices in together.values():
            group = [media[i] for i in indices]
            survivors = self._run_group(group, reduction, trace)
            start = 0
            for index, pixels in zip(indices, group, strict=True):
                own = survivors.rows(start, start + pixels.segments)
                features[index] = self._decoder_tokens(pixels, own, reduction)
                start += pixels.segments
        return [features[i] for i in range(len(media))]

    def _decoder_tokens(self, pixels: Pixels, survivors: Survivors, reduction: Reduction) -> Features:
        """The survivors of one medium behind the reduction between tower and decoder, if there is one."""
        behind, stage = self.input_stage(reduction), self.vision_stage(reduction, pixels.kind)
        if behind is None:
            return self.lay_out(pixels, survivors, reduction)
        left = pixels.tokens - (sum(self.budget(stage, pixels.tokens).values()) if stage else 0)
        if behind.keep is None:  # as many in each segment: all of a medium have to be seen
            survivors = self.condense(pixels, self._thinned(survivors, behind), reduction)
        features = self.lay_out(pixels, survivors, reduction)
        return replace(features, vision_kept=pixels.segments * left * self.patches_per_token)

    def _thinned(self, survivors: Survivors, stage: InputStage) -> Survivors:
        return thinned(survivors, stage.method, stage.keep, layer=self.tower_layers)

    def _run_group(self, group: list[Pixels], reduction: Reduction, trace: Tracing) -> Survivors:
        first = group[0]
        stage, behind = self.vision_stage(reduction, first.kind), self.input_stage(reduction)
        budget = self.budget(stage, first.tokens) if stage else {}
        reduces = any(budget.values()) or behind is not None
        padding = [self.padding(p, reduction) if reduces else None for p in group]
        if any(p is not None for p in padding):
            nothing = torch.zeros(1, first.tokens, dtype=torch.bool)
            masks = zip(group, padding, strict=True)
            padding = torch.cat([nothing.expand(g.segments, -1) if p is None else p for g, p in masks])
        else:
            padding = None
        step = max(1, self.chunk_bytes // (first.tokens * self.bytes_per_token()))
        total = sum(p.segments for p in group)
        parts = []
        for start in range(0, total, step):
            stop = min(start + step, total)
            pixel_values = to_device(_pixel_slice(group, start, stop), self.device)
            state = TowerState(
                segments=stop - start,
                tokens=first.tokens,
                device=self.device,
                group=self.patches_per_token,
                class_tokens=self.class_tokens,
                budget=budget,
                method=stage.method if stage else "illava",
                proportional=bool(stage and stage.proportional),
                include_self=reduction.variant == "authors",
                padding=None if padding is None else to_device(padding[start:stop], self.device),
                scored=None if behind is None else self.tower_layers - 1,
                traced=bool(trace),
                watched=trace == "attention",
            )
            hidden_states = self.run_tower(first, pixel_values, state).to(self.device)
            survivors = Survivors.of(hidden_states, state)
            if behind is not None and behind.keep is not None:
                planned = share(survivors.left, behind.keep)
                survivors = self._thinned(survivors, behind)
                survivors.verify(planned, "the reduction behind the vision tower")
            adapts = behind is not None and behind.keep is None
            parts.append(survivors if adapts else self.condense(first, survivors, reduction))
        return Survivors.cat(parts)


def normalised(values: Tensor, settings: dict, channel: int) -> Tensor:
    """uint8 `values` rescaled and normalised to float32 as a video processor's settings say.

    Args:
        channel: the dimension of the three colours.
    """
    shape = [1] * values.dim()
    shape[channel] = 3
    mean, std = (torch.tensor(settings[k]).view(shape) for k in ("image_mean", "image_std"))
    scale = settings.get("rescale_factor", 1 / 255)
    return values.to(torch.float32).mul_(scale / std).sub_(mean / std)


def _pixel_slice(group: list[Pixels], start: int, stop: int) -> Tensor:
    """Segments `start` to `stop` of several media, counted through."""
    parts, offset = [], 0
    for pixels in group:
        lo, hi = max(start - offset, 0), min(stop - offset, pixels.segments)
        if lo < hi:
            parts.append(pixels.pixel_values(lo, hi))
        offset += pixels.segments
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def known_method(name: str, stage: str | None = None) -> Method:
    """The method of that name; refused where it is not registered, or has no meaning for the stage."""
    here = [known for known, method in METHODS.items() if stage is None or stage in method.stages]
    if name not in METHODS:
        where = f"{stage}.method" if stage else "method"
        raise UsageError(
            f"{where}: unknown method {name!r}{near_miss(name, here)} (there are: {', '.join(here)})"
        )
    if name not in here:
        stages = " and ".join(METHODS[name].stages)
        raise UsageError(f"{stage}.method: {name!r} is for {stages} only (here: {', '.join(here)})")
    return METHODS[name]


def check_guide(stage: GuideStage) -> None:
    """Refuse a choice of frames and regions that can show nothing, or a method that makes none."""
    known_method(stage.method, "guide")
    if 0 in (stage.keep, stage.roi):
        raise UsageError("guide.keep and guide.roi: must be more than 0: something has to be seen")


def per_layer(value: float | list[float] | None, layers: list[int], name: str) -> list[float]:
    """One budget per layer, from one value or a list."""
    stage = name.partition(".")[0]
    if len(set(layers)) != len(layers):
        raise UsageError(f"{stage}.layers: a layer is named twice: {layers}")
    if value is None:
        if layers:
            raise UsageError(f"{name} is missing: say how many tokens the layers {layers} work with")
        return []
    values = value if isinstance(value, list) else [value] * len(layers)
    if len(values) != len(layers):
        raise UsageError(
            f"{name} has {len(values)} values for {len(layers)} layers: give one, or one a layer"
        )
    return values


def nearest_squares(n: int) -> str:
    """The squares around n, for an error message."""
    root = math.isqrt(n)
    return f"{root**2} or {(root + 1) ** 2}"
