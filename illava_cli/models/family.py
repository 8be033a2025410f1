"""What the engine asks of a model family, and what all families share.

A family turns media into segments of pixels, runs them through its tower with the merge points, and
lays the survivors out as decoder tokens with their places in the unmerged sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from illava_cli.config import InputStage, MediaOptions
from illava_cli.errors import MergeError, UsageError
from illava_cli.families import family_name
from illava_cli.models.control_tokens import ControlTokens
from illava_cli.models.decoder import compile_decoder
from illava_cli.models.frames import resized
from illava_cli.models.hf import versions
from illava_cli.models.host import to_device
from illava_cli.models.schedule import Schedule, ScheduleShape, input_kept
from illava_cli.models.shape import Expansion, Projector, TowerShape
from illava_cli.models.survivors import Survivors, thinned
from illava_cli.models.tower import BlockParts, TowerPass, TowerTokens, compile_blocks
from illava_cli.reduction import Merge
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
    block_parts: ClassVar[BlockParts]  # of the tower's blocks
    encodes_apart = False  # whether a run of text between media is tokenized by itself
    patches_per_token = 1
    class_tokens = 0  # of the tower, before the patches
    tile_tokens: int | None = None  # tokens of a tile, of a tower over square tiles
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
    def expansion(self, pixels: Pixels, kept: int, schedule: Schedule) -> Expansion:
        """Decoder tokens of a medium of which `kept` tokens of each segment are laid out."""

    @abstractmethod
    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        """A chunk of segments through tower and projector -> (B, M, C)."""

    @abstractmethod
    def lay_out(self, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Features:
        """The survivors of one medium as decoder tokens."""

    @abstractmethod
    def views(self, pixels: Pixels) -> list[View]:
        """What each segment shows of the picture."""

    @abstractmethod
    def tower_shape(self) -> tuple[TowerShape, Projector]:
        """The widths of tower and projector."""

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

    def padding(self, pixels: Pixels, schedule: Schedule) -> Tensor | None:
        """(segments, tokens) image padding that leaves first; None where none does."""
        return None

    def condense(self, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Survivors:
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

    @property
    def schedule_shape(self) -> ScheduleShape:
        """What decides which schedules it can run."""
        return ScheduleShape(
            name=self.name,
            own_preset=self.own_preset,
            tower_layers=self.tower_layers,
            decoder_layers=self.text_config.num_hidden_layers,
            tile_tokens=self.tile_tokens,
            attention=self.model.config._attn_implementation,
        )

    @torch.inference_mode()
    def encode(
        self, media: Sequence[Pixels], schedules: Mapping[str, Schedule], *, trace: Tracing = False
    ) -> list[Features]:
        """Media through tower, projector and layout. Segments of one shape share passes.

        The passes are bounded in memory, so that a longer video does not need more of it.

        Args:
            schedules: by kind of medium.
            trace: keep the merges of each tower layer in `Features.merges`, and the layout.

        Raises:
            MergeError: a reduction did not happen as scheduled.
        """
        together: dict[tuple[tuple, Schedule], list[int]] = {}
        for index, pixels in enumerate(media):
            schedule = schedules[pixels.kind]
            # a pass is one schedule's as far as the tower and what comes right after it
            key = (pixels.shape, replace(schedule, decoder=(), scope="medium"))
            together.setdefault(key, []).append(index)
        features: dict[int, Features] = {}
        for (_, schedule), indices in together.items():
            group = [media[i] for i in indices]
            survivors = self._run_group(group, schedule, trace)
            start = 0
            for index, pixels in zip(indices, group, strict=True):
                own = survivors.rows(slice(start, start + pixels.segments))
                features[index] = self._decoder_tokens(pixels, own, schedule)
                start += pixels.segments
        return [features[i] for i in range(len(media))]

    def _decoder_tokens(self, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Features:
        """The survivors of one medium behind the reduction between tower and decoder, if there is one."""
        entry = schedule.input
        if entry is not None and entry.keep is None:
            # as many in each segment: all of a medium have to be seen
            survivors = self.condense(pixels, self._thinned(survivors, entry), schedule)
        features = self.lay_out(pixels, survivors, schedule)
        self._verify(pixels, features, schedule)
        return features

    def _verify(self, pixels: Pixels, features: Features, schedule: Schedule) -> None:
        """What was laid out is what the schedule says; the host knows both."""
        planned = self.tokens(pixels, schedule)
        laid_out = Expansion(features.visual, features.newlines)
        if len(features.embeds) != laid_out.total or planned not in (None, laid_out):
            said = planned or laid_out
            raise MergeError(
                f"{len(features.embeds)} tokens of the {pixels.kind} are laid out for the LLM, "
                f"{laid_out.newlines} of them newlines, where the schedule says {said.total} and "
                f"{said.newlines} ({versions()})"
            )

    def tokens(self, pixels: Pixels, schedule: Schedule) -> Expansion | None:
        """Decoder tokens that a medium takes under a schedule, from its size alone.

        None where the method finds its own number. Under `Schedule()` it is what the unmodified model takes.
        """
        kept = schedule.after_input(pixels.tokens)
        return None if kept is None else self.expansion(pixels, kept, schedule)

    def _thinned(self, survivors: Survivors, stage: InputStage) -> Survivors:
        return thinned(survivors, stage.method, stage.keep, layer=self.tower_layers)

    def _run_group(self, group: list[Pixels], schedule: Schedule, trace: Tracing) -> Survivors:
        first, entry = group[0], schedule.input
        tower = schedule.in_tower(first.tokens, self.tower_layers)
        padding = [self.padding(p, schedule) if tower.reduces else None for p in group]
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
            outside = None if padding is None else to_device(padding[start:stop], self.device)
            run = TowerPass(
                TowerTokens.all(stop - start, first.tokens, self.device, outside),
                plan=tower,
                group=self.patches_per_token,
                class_tokens=self.class_tokens,
                traced=bool(trace),
                watched=trace == "attention",
            )
            survivors = Survivors.of(self.run_tower(first, pixel_values, run).to(self.device), run)
            if entry is not None and entry.keep is not None:
                planned = input_kept(survivors.left, entry.keep)
                survivors = self._thinned(survivors, entry)
                survivors.verify(planned, "the reduction behind the vision tower")
            adapts = entry is not None and entry.keep is None
            parts.append(survivors if adapts else self.condense(first, survivors, schedule))
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
