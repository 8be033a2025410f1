"""Qwen2-VL: a tower over packed frames of any size, 2x2 groups joined by a patch merger, M-RoPE.

The tower merges whole 2x2 groups. A segment is a temporal frame; media of one grid size share passes
as a batch. Survivors keep their own (t, h, w) position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Qwen2VLForConditionalGeneration

from illava_cli.config.options import MediaOptions
from illava_cli.errors import MediaError, ModelError, UsageError
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.families.packed import PACKED
from illava_cli.models.family import Family
from illava_cli.models.forms import InPlace
from illava_cli.models.frames import common_size, padded, resized, stacked
from illava_cli.models.hf import Qwen2VLImageProcessorPil, get_vision_position_ids, smart_resize
from illava_cli.models.host import to_device
from illava_cli.models.media import Geometry, Pixels, Run, normalised
from illava_cli.models.tower import BlockParts, run_blocks
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from illava_cli.trace import View


@dataclass(frozen=True)
class PatchGrid(InPlace):
    """Steps in time of a grid of patches, of which `side` x `side` make a token.

    Args:
        grid: time, height and width in patches.
        frames: of a step, in a video; None of an image.
        apart: its steps have text between them in a prompt.
    """

    grid: tuple[int, int, int]
    side: int
    frames: int | None = None
    apart: bool = False

    def part(self) -> PatchGrid:
        return replace(self, grid=(1, *self.grid[1:]))

    @property
    def segments(self) -> int:
        return self.grid[0]

    @property
    def groups(self) -> tuple[int, int]:
        """Rows and columns of a step's tokens."""
        return self.grid[1] // self.side, self.grid[2] // self.side

    @property
    def tokens(self) -> int:
        return math.prod(self.groups)

    def views(self) -> list[View]:
        if self.frames is None:
            return [View(*self.groups)]
        return [View(*self.groups, frame=step * self.frames) for step in range(self.segments)]


class Qwen2VL(Family):
    """`transformers`' Qwen2VLForConditionalGeneration with merge points."""

    key = "qwen2_vl"
    stock_class = Qwen2VLForConditionalGeneration
    image_processor_class = Qwen2VLImageProcessorPil
    block_parts = BlockParts("norm1", "attn", "norm2", "mlp")
    tower_attention = PACKED
    rope_axes = 3
    frames_apart = False  # whether text stands between a video's steps
    special_tokens: ClassVar = {
        "image": "<|image_pad|>",
        "video": "<|video_pad|>",
        "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
    }
    markers: ClassVar = {
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
        "video": "<|vision_start|><|video_pad|><|vision_end|>",
    }

    def bind(self) -> None:
        config = self.model.config.vision_config
        self.patch, self.temporal = config.patch_size, config.temporal_patch_size
        self.merge_size = config.spatial_merge_size
        self.patches_per_token = self.merge_size**2
        tower = self.model.model.visual
        family, stock = self, stock_forward(tower)

        def forward(self, hidden_states, grid_thw=None, run=None, **kwargs):
            if run is None:
                return stock(hidden_states, grid_thw, **kwargs)
            hidden_states = run_blocks(
                self.blocks,
                family.block_parts,
                family.embedded(self, hidden_states, run, **kwargs),
                run,
                family.block_arguments,
                partial(family.tap, self),
            )
            return self.merger(hidden_states).unflatten(0, (run.segments, -1))

        bind(tower, forward)

    def embedded(self, tower: nn.Module, patches: Tensor, run: TowerPass, *, position_ids: Tensor) -> Tensor:
        """Patches before the first block; their rotary embeddings go with the tokens.

        Args:
            position_ids: (patches of a frame, 2).
        """
        hidden_states = tower.patch_embed(patches)
        rope = tower.rotary_pos_emb(hidden_states, position_ids.repeat(run.segments, 1))
        rope = tuple(x.unflatten(0, (run.segments, -1, run.group)) for x in rope)
        run.tokens = replace(run.tokens, rope=rope)
        return hidden_states

    def tap(self, tower: nn.Module, layer: int, hidden_states: Tensor, run: TowerPass) -> None:
        """Take what a block gives: some towers hand the features of several layers to the decoder."""

    def block_arguments(self, layer: int, tokens: TowerTokens) -> dict:
        """What a block takes beside the hidden states."""
        length = tokens.count * self.patches_per_token  # of every segment: there is no need for their borders
        rope = tuple(x.flatten(0, 2) for x in tokens.rope)
        return {"cu_seqlens": None, "max_seqlen": length, "position_embeddings": rope}

    @property
    def tower_layers(self) -> int:
        return self.model.config.vision_config.depth

    def tower_blocks(self) -> Iterable[nn.Module]:
        return self.model.model.visual.blocks

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = (8 + 2 * config.mlp_ratio) * config.embed_dim
        return int(width * self.patches_per_token * self.model.dtype.itemsize)

    # --- pixels -------------------------------------------------------------------------------

    def geometry(
        self,
        kind: str,
        size: tuple[int, int],
        frames: int = 1,
        options: MediaOptions = MediaOptions(),
        alone: bool = True,
    ) -> Geometry:
        if kind == "video":
            size = self.frame_size(size, frames, options)
            return self._geometry(kind, size, -(-frames // self.temporal))
        if options.max_tiles is not None:
            raise UsageError(f"--max-tiles is for models with tiles: {self.name} has none")
        self._refuse_narrow("an image", *size)
        return self._geometry(kind, self._resized(size, self._limits(options)), 1)

    def _geometry(self, kind: str, size: tuple[int, int], steps: int) -> Geometry:
        """Of a medium that is resized."""
        height, width = (extent // self.patch for extent in size)
        frames = self.temporal if kind == "video" else None
        apart = self.frames_apart and kind == "video"
        form = PatchGrid((steps, height, width), self.merge_size, frames, apart)
        return Geometry(kind, form, (height, width))

    def preprocess_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        geometry = self.geometry("image", (image.height, image.width), options=options, alone=alone)
        picture = resized(np.asarray(image), tuple(extent * self.patch for extent in geometry.form.grid[1:]))
        batch = self.image_processor([picture], do_resize=False, return_tensors="np")
        made = tuple(batch["image_grid_thw"][0].tolist())
        if made != geometry.form.grid:
            raise ModelError(f"the image processor made patches of {made}, not {geometry.form.grid}")
        values = torch.from_numpy(np.asarray(batch["pixel_values"]))
        return geometry.filled(lambda a, b: values, lambda n: [picture])

    def preprocess_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        self._refuse_narrow("an image", *whole)
        size = self._resized(whole, self._limits(options))
        share = shared(options, (image.height, image.width), whole)
        return self.preprocess_image(at_scale(image, whole, size), share, alone)

    def resize_region(
        self, frame: np.ndarray, whole: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> np.ndarray:
        region = at_scale(Image.fromarray(frame), whole, self.frame_size(whole, frames, options))
        return self.resize_frame(np.asarray(region), frames, shared(options, frame.shape[:2], whole))

    def _limits(
        self, options: MediaOptions, size: Mapping[str, int] | None = None, pictures: int = 1
    ) -> dict[str, int]:
        """The least and the most pixels of so many pictures, as an image processor calls them.

        Args:
            size: what the checkpoint says of them; by default of an image.
        """
        size = self.image_processor.size if size is None else size
        least, most = options.min_pixels, options.max_pixels
        most = size["longest_edge"] if most is None else most * pictures
        least = min(size["shortest_edge"], most) if least is None else least * pictures
        return {"shortest_edge": least, "longest_edge": max(least, most)}

    def _refuse_narrow(self, medium: str, height: int, width: int) -> None:
        if max(height, width) > 200 * min(height, width):
            raise MediaError(f"{medium} of {width}x{height} is too narrow for {self.name}: crop it to 200:1")

    def _resized(self, size: tuple[int, int], limits: dict[str, int]) -> tuple[int, int]:
        """The height and width at which the model takes a picture."""
        return smart_resize(
            *size,
            factor=self.patch * self.merge_size,
            min_pixels=limits["shortest_edge"],
            max_pixels=limits["longest_edge"],
        )

    def frame_size(
        self, size: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> tuple[int, int]:
        self._refuse_narrow("a video", *size)
        return self._resized(size, self._limits(options, self.video_settings["size"]))

    def preprocess_video(self, frames: Sequence[np.ndarray]) -> Pixels:
        size = common_size(frames)
        height, width = (extent // self.patch for extent in size)

        def pixel_values(start: int, stop: int) -> Tensor:
            # the last step may lack frames
            part = torch.from_numpy(stacked(frames, start * self.temporal, stop * self.temporal))
            m, p = self.merge_size, self.patch
            # (t, T, h/m, m, p, w/m, m, p, C) -> groups of m x m patches, each (C, T, p, p)
            part = part.view(stop - start, self.temporal, height // m, m, p, width // m, m, p, 3)
            part = part.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).contiguous()  # still bytes: a quarter to move
            values = normalised(part, self.video_settings, channel=5)
            return values.view((stop - start) * height * width, -1)

        steps = -(-len(frames) // self.temporal)
        return self._geometry("video", size, steps).filled(
            pixel_values, lambda n: padded(frames, n * self.temporal, (n + 1) * self.temporal)
        )

    # --- tower --------------------------------------------------------------------------------

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        return self.model.model.visual(pixel_values, run=run, **self.frame_arguments(pixels, run))

    def frame_grid(self, pixels: Pixels) -> Tensor:
        """(1, 3) a frame as a grid of patches."""
        return torch.tensor([[1, *pixels.shape]])

    def frame_arguments(self, pixels: Pixels, run: TowerPass) -> dict[str, Tensor]:
        """What `embedded` takes of the places of a frame's patches."""
        position_ids = get_vision_position_ids(self.frame_grid(pixels), self.merge_size)
        return {"position_ids": to_device(position_ids, run.device)}

    def positions(self, length: int, media: list[tuple[int, Run]]) -> Tensor:
        types = torch.zeros(1, length, dtype=torch.int32)
        kinds: dict[int, list[Run]] = {1: [], 2: []}
        for start, run in media:
            # a video of one step has the positions of an image
            kind = 1 if run.form.grid[0] == 1 else 2
            types[0, start : start + run.length] = kind
            kinds[kind].append(run)
        image, video = (
            torch.tensor([run.form.grid for run in kinds[kind]]) if kinds[kind] else None for kind in (1, 2)
        )
        position_ids, _ = self.model.model.get_rope_index(
            torch.zeros(1, length, dtype=torch.long),
            types,
            image_grid_thw=image,
            video_grid_thw=video,
            **self.time_arguments(kinds[2]),
        )
        return position_ids[:, 0]

    def time_arguments(self, videos: list[Run]) -> dict[str, Tensor]:
        """What `get_rope_index` takes to tell time: Qwen2-VL counts steps."""
        return {}


def at_scale(region: Image.Image, whole: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """A region shrunk as the whole picture is, that it may not be seen larger than there.

    Args:
        whole, size: height and width of the whole picture, and at which the model takes it.
    """
    scale = min(1.0, size[0] / whole[0], size[1] / whole[1])
    size = [max(1, round(extent * scale)) for extent in region.size]
    return region.resize(size, Image.Resampling.BICUBIC)


def shared(options: MediaOptions, region: tuple[int, int], whole: tuple[int, int]) -> MediaOptions:
    """`options` for a region: of the fewest pixels it has its share, that it may not be seen larger.

    Args:
        region, whole: height and width, before either is resized.
    """
    if options.min_pixels is None:
        return options
    least = round(options.min_pixels * math.prod(region) / math.prod(whole))
    return options.model_copy(update={"min_pixels": max(1, least)})
