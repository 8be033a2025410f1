"""What the engine asks of a model family, and what all families share.

A family turns media into segments of pixels, runs them through its tower with the merge points, and says how
the survivors stand as decoder tokens with their places in the unmerged sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from illava_cli.config.options import MediaOptions
from illava_cli.errors import UsageError
from illava_cli.families import family_name
from illava_cli.models.attention import PLAIN, install_tap
from illava_cli.models.clip import clip_plan
from illava_cli.models.control_tokens import ControlTokens
from illava_cli.models.decoder import compile_decoder
from illava_cli.models.forms import Expansion
from illava_cli.models.frames import resized
from illava_cli.models.host import to_device
from illava_cli.models.layers import Layers, attends
from illava_cli.models.media import Features, Geometry, Pixels, Run
from illava_cli.models.schedule import Schedule, ScheduleShape
from illava_cli.models.sizes import key_of, own_preset
from illava_cli.models.tower import BlockParts, compile_blocks
from illava_cli.models.tower_pass import TowerPass

IMAGES_ONLY = "this model takes images only: give single frames of the video with --image"


class Family(ABC):
    """One model family around a loaded `transformers` model."""

    key: str  # `model_type` of its checkpoints
    stock_class: ClassVar[type]  # of `transformers`, which we load and extend
    image_processor_class: ClassVar[type]  # the PIL one: torchvision need not be there
    rope_axes = 1
    has_tiles = False  # whether an image may be cut into several
    special_tokens: ClassVar[dict[str, str]]  # `NAME_token_id` of its config -> the token
    marks: ClassVar[tuple[str, ...]] = ()  # further tokens that stand around media
    thought_marks: ClassVar[tuple[str, str]] = ("<think>", "</think>")  # around its thoughts, if it has any
    markers: ClassVar[dict[str, str]]  # how `<image>` and `<video>`, if it takes them, stand in its prompts
    block_parts: ClassVar[BlockParts]  # of the tower's blocks
    tower_attention = PLAIN  # the function that its attention is given
    encodes_apart = False  # whether a run of text between media is tokenized by itself
    patches_per_token = 1
    class_tokens = 0  # of the tower, before the patches
    tile_tokens: int | None = None  # tokens of a tile, of a tower over square tiles
    layers_class: ClassVar[type[Layers]] = Layers  # of its decoder
    decoder_fixed = ""  # why nothing merges in its decoder
    compiled = False
    frames_of_one_size = False  # a region of a frame has as many tokens as all of it

    def __init__(
        self,
        model: nn.Module,
        tokenizer,
        image_processor,
        video_settings: dict,
        chunk_bytes: int,
        schedule: str | None = None,
    ):
        """
        Args:
            chunk_bytes: bound on the activations of one pass through the tower.
            schedule: `model.schedule`, where it is set.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.video_settings = video_settings
        self.chunk_bytes = chunk_bytes
        self.text_model = model.model.language_model
        self.text_config = model.config.text_config
        self.schedule_key = key_of(self.key, self.text_config.hidden_size, schedule)
        self.layers = self.layers_class(self.text_model, self.rope_axes)
        self.bind()
        # called without our loops the model is the stock one
        for block in self.tower_blocks():
            install_tap(getattr(block, self.block_parts.attention), self.tower_attention)
        for layer in filter(attends, self.text_model.layers):
            install_tap(layer.self_attn)

    # --- what a family says -----------------------------------------------------------------

    @abstractmethod
    def bind(self) -> None:
        """Read the model's settings, refuse those that are not supported, and bind the loop to its tower."""

    @property
    @abstractmethod
    def tower_layers(self) -> int:
        """Tower layers that are run."""

    @abstractmethod
    def tower_blocks(self) -> Iterable[nn.Module]:
        """The tower's blocks, in order."""

    @abstractmethod
    def bytes_per_token(self) -> int:
        """Activations of the tower per token, roughly."""

    @abstractmethod
    def geometry(
        self,
        kind: str,
        size: tuple[int, int],
        frames: int = 1,
        options: MediaOptions = MediaOptions(),
        alone: bool = True,
    ) -> Geometry:
        """How a medium stands before the tower, from its size alone; preprocessing makes it so.

        Args:
            size: height and width of an image or of a video's frames.
            options: as the image is read.
            alone: it is taken as the only image of its turn.

        Raises:
            MediaError, UsageError: the family does not take such a medium.
        """

    @abstractmethod
    def preprocess_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        """The pixels of an RGB image; `alone`: it is taken as the only image of its turn."""

    def preprocess_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        """`preprocess_image` for a region of one of size `whole` (height, width), for its share of tokens."""
        return self.preprocess_image(image, options, alone)

    def frame_size(
        self, size: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> tuple[int, int]:
        """Height and width that the tower wants of a video's frames.

        Args:
            size: height and width that they have.
            frames: how many were sampled.
            options: as the video is read.

        Raises:
            UsageError: the family takes images only.
        """
        raise UsageError(IMAGES_ONLY)

    def resize_frame(
        self, frame: np.ndarray, frames: int, options: MediaOptions = MediaOptions()
    ) -> np.ndarray:
        """A frame (H, W, 3) uint8 at its `frame_size`, uint8."""
        return resized(frame, self.frame_size(frame.shape[:2], frames, options))

    def resize_region(
        self, frame: np.ndarray, whole: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> np.ndarray:
        """`resize_frame` for a region of a frame of size `whole` (height, width)."""
        return self.resize_frame(frame, frames, options)

    def preprocess_video(self, frames: Sequence[np.ndarray]) -> Pixels:
        """The pixels of frames from `resize_frame`."""
        raise UsageError(IMAGES_ONLY)

    @abstractmethod
    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        """A chunk of segments through tower and projector -> (B, M, C)."""

    def newline(self, like: Tensor) -> Tensor | None:
        """(C,) the embedding that ends a row, where there is one."""
        return None

    @classmethod
    def tokenizer_folder(cls) -> str:
        """The shipped toy tokenizer of this family's `random:` models."""
        return cls.key.replace("_", "-")

    def marker(self, kind: str, medium: Pixels | Features) -> str:
        """How a medium stands in a prompt: with a placeholder for each part of its form, and text between."""
        return self.markers[kind]

    def positions(self, length: int, media: list[tuple[int, Run]]) -> Tensor:
        """Position ids of an unmerged chunk: (1, length), or (3, length) for M-RoPE.

        Args:
            media: where each run of a medium's tokens starts in the chunk, in order.
        """
        return torch.arange(length)[None]

    # --- shared -------------------------------------------------------------------------------

    def refuse_pixels(self, options: MediaOptions) -> None:
        """For families whose pictures and frames have sizes of their own.

        Raises:
            UsageError: bounds on pixels, which would do nothing.
        """
        if options.min_pixels is not None or options.max_pixels is not None:
            raise UsageError(
                f"--min-pixels and --max-pixels are for models that take pictures of any size: {self.name} "
                "has tiles, give --max-tiles or --num-frames"
            )

    @property
    def placeholders(self) -> dict[str, str]:
        """Kind of a medium -> the token in the place of each part."""
        return {kind: self.special_tokens[kind] for kind in self.markers}

    @cached_property
    def control_tokens(self) -> ControlTokens:
        """What keeps words that spell a token words."""
        return ControlTokens(self.tokenizer)

    @property
    def name(self) -> str:
        """What people call it."""
        return family_name(self.key)

    @cached_property
    def placeholder_ids(self) -> dict[str, int]:
        """Kind of a medium -> token id of its placeholder; several may have one."""
        names = {token: f"{name}_token_id" for name, token in self.special_tokens.items()}
        return {kind: getattr(self.model.config, names[token]) for kind, token in self.placeholders.items()}

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
        words = (*self.special_tokens.values(), *self.marks)
        media = {vocabulary[word] for word in words if word in vocabulary}
        media |= set(self.placeholder_ids.values())
        spoken = (set(vocabulary.values()) - media) | self.end_ids
        unspoken = torch.ones(rows, dtype=torch.bool)
        unspoken[[id for id in spoken if id < rows]] = False
        return to_device(unspoken, self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """What the decoder is fed of tokens, (..., T) -> (..., T, C)."""
        return self.model.get_input_embeddings()(ids)

    def fed(self, features: Tensor) -> Tensor:
        """What the decoder is fed of a medium's features (T, C), as wide as what `embed` gives."""
        return features

    def logits(self, hidden_states: Tensor) -> Tensor:
        """(B, C) of the decoder -> (B, vocabulary)."""
        return self.model.get_output_embeddings()(hidden_states)

    def compile(self) -> None:
        """`torch.compile` tower and decoder; the first questions then take long."""
        compile_blocks(self.tower_blocks())
        compile_decoder(self.text_model)
        self.compiled = True

    @property
    def schedule_shape(self) -> ScheduleShape:
        """What decides which schedules it can run."""
        return ScheduleShape(
            name=self.name,
            own_preset=own_preset(self.schedule_key),
            tower_layers=self.tower_layers,
            decoder_layers=self.text_config.num_hidden_layers,
            tile_tokens=self.tile_tokens,
            rope_axes=self.rope_axes,
            attention=self.model.config._attn_implementation,
            linear=self.layers.linear,
            decoder_fixed=self.decoder_fixed,
        )

    def tokens(self, geometry: Geometry, schedule: Schedule) -> Expansion | None:
        """Decoder tokens that a medium takes under a schedule, from its size alone.

        None where the method finds its own number. Under `Schedule()` it is what the unmodified model takes.
        """
        plan = clip_plan(geometry, schedule)
        return None if plan is None else plan.expansion
