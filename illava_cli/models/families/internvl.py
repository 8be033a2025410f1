"""InternVL 2.5, 3 and 3.5: square tiles and an overview, 2x2 patches joined by pixel shuffle, a 1-D decoder.

The projector takes four neighbours as one vector, so that, as in Qwen2-VL, what merges in the tower is a
whole 2x2 group: scores are averaged over it, and its patches merge each with its like. Patches are put in the
order of their groups before the first block. The class token is one of the queries and never merges.

Every image is cut into as many tiles as fit its aspect best, and an overview comes last. Frames of a video
are squashed to a tile and stand behind their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from illava_cli.config.options import MediaOptions
from illava_cli.errors import ModelError
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.family import Family
from illava_cli.models.forms import InPlace
from illava_cli.models.frames import stacked
from illava_cli.models.hf import GotOcr2ImageProcessorPil, get_optimal_tiled_canvas
from illava_cli.models.host import to_device
from illava_cli.models.media import Features, Geometry, Pixels, as_bytes, normalised
from illava_cli.models.tower import BlockParts, run_blocks
from illava_cli.models.tower_pass import TowerPass
from illava_cli.trace import View

JOINED = 2  # patches along a group


@dataclass(frozen=True)
class Mosaic(InPlace):
    """Tiles of an image and an overview after them, or frames.

    Args:
        side: groups along a tile.
        rows, columns: tiles of an image.
        frames: of a video; None of an image.
    """

    side: int
    rows: int = 1
    columns: int = 1
    frames: int | None = None

    @property
    def segments(self) -> int:
        tiles = self.rows * self.columns
        return self.frames or tiles + (tiles > 1)

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def apart(self) -> bool:
        return self.frames is not None

    def part(self) -> Mosaic:
        return Mosaic(self.side, frames=1)

    def views(self) -> list[View]:
        if self.frames is not None:
            return [View(self.side, self.side, frame=index) for index in range(self.frames)]
        width, height = 1 / self.columns, 1 / self.rows
        tiles = [
            View(self.side, self.side, (column * width, row * height, width, height), tile=(row, column))
            for row in range(self.rows)
            for column in range(self.columns)
        ]
        whole = View(self.side, self.side)
        return [*tiles, whole] if len(tiles) > 1 else [whole]


class InternVL(Family):
    """`transformers`' InternVLForConditionalGeneration with merge points."""

    key = "internvl"
    stock_class = InternVLForConditionalGeneration
    image_processor_class = GotOcr2ImageProcessorPil
    block_parts = BlockParts(
        "layernorm_before", "attention", "layernorm_after", "mlp", ("lambda_1", "lambda_2")
    )
    patches_per_token = JOINED**2
    class_tokens = 1
    has_tiles = True
    special_tokens: ClassVar = {"image": "<IMG_CONTEXT>"}
    placeholders: ClassVar = {"image": "<IMG_CONTEXT>", "video": "<IMG_CONTEXT>"}
    marks = ("<img>", "</img>", "<video>")
    markers: ClassVar = {"image": "<IMG_CONTEXT>", "video": "<video>"}

    def bind(self) -> None:
        config = self.model.config
        vision = config.vision_config
        size = self.image_processor.size
        edges = {*vision.image_size, size["height"], size["width"]}
        if len(edges) != 1:
            raise ModelError(f"tiles of {sorted(edges)} pixels, in tower and image processor: not supported")
        (self.edge,) = edges
        if config.vision_feature_layer != -1 or config.vision_feature_select_strategy != "default":
            raise ModelError("vision_feature_layer other than -1, or with the class token, is not supported")
        if config.downsample_ratio != 1 / JOINED:
            raise ModelError(f"downsample_ratio {config.downsample_ratio}: only {1 / JOINED} is supported")
        self.side = self.edge // vision.patch_size[0] // JOINED
        order = by_group(self.side)
        tower = self.model.model.vision_tower
        stock, parts = stock_forward(tower), self.block_parts

        def forward(self, pixel_values, *args, run=None, **kwargs):
            if run is None:
                return stock(pixel_values, *args, **kwargs)
            hidden_states = self.embeddings(pixel_values)  # (S, 1 + patches, C)
            places = to_device(order, hidden_states.device)
            patches = hidden_states[:, 1:].index_select(1, places)
            hidden_states = torch.cat([hidden_states[:, :1], patches], dim=1)
            hidden_states = run_blocks(self.encoder.layer, parts, hidden_states, run, lambda *_: {})
            hidden_states = self.layernorm(hidden_states)[:, 1:]
            return hidden_states.reshape(run.segments, -1, run.group * hidden_states.shape[-1])

        bind(tower, forward)

    @property
    def tower_layers(self) -> int:
        return self.model.config.vision_config.num_hidden_layers

    def tower_blocks(self) -> Iterable[nn.Module]:
        return self.model.model.vision_tower.encoder.layer

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 2 * config.intermediate_size
        return width * self.patches_per_token * self.model.dtype.itemsize

    # --- pixels -------------------------------------------------------------------------------

    def geometry(
        self,
        kind: str,
        size: tuple[int, int],
        frames: int = 1,
        options: MediaOptions = MediaOptions(),
        alone: bool = True,
    ) -> Geometry:
        self.refuse_pixels(options)
        if kind == "video":
            form = Mosaic(self.side, frames=frames)
        else:
            fewest, most = self._tiles(options)
            columns, rows = get_optimal_tiled_canvas(size, (self.edge, self.edge), fewest, most)
            form = Mosaic(self.side, rows, columns)
        return Geometry(kind, form, (self.edge,))

    def _tiles(self, options: MediaOptions) -> tuple[int, int]:
        """The fewest and the most tiles of an image's detail: the overview counts as one of `max_tiles`."""
        fewest, most = self.image_processor.min_patches, self.image_processor.max_patches
        if options.max_tiles is not None:
            most = min(most, max(1, options.max_tiles - 1))
        return min(fewest, most), most

    def preprocess_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        geometry = self.geometry("image", (image.height, image.width), options=options, alone=alone)
        fewest, most = self._tiles(options)
        batch = self.image_processor(
            [image], crop_to_patches=True, min_patches=fewest, max_patches=most, return_tensors="np"
        )
        values = torch.from_numpy(np.asarray(batch["pixel_values"]))
        if len(values) != geometry.segments:
            raise ModelError(f"the image processor made {len(values)} tiles, not {geometry.segments}")
        return geometry.filled(lambda a, b: values[a:b], lambda n: as_bytes(values[n], self.image_processor))

    def preprocess_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        """A region has its share of the image's tiles: by itself it would be enlarged to as many."""
        segments = self.geometry("image", whole, options=options, alone=alone).segments
        share = image.width * image.height / (whole[0] * whole[1])
        fewer = options.model_copy(update={"max_tiles": max(1, round(share * segments))})
        return self.preprocess_image(image, fewer, alone)

    def frame_size(
        self, size: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> tuple[int, int]:
        self.refuse_pixels(options)
        return self.edge, self.edge

    def preprocess_video(self, frames: Sequence[np.ndarray]) -> Pixels:
        def pixel_values(start: int, stop: int) -> Tensor:
            values = torch.from_numpy(stacked(frames, start, stop)).permute(0, 3, 1, 2)
            return normalised(values, self.video_settings, channel=1)

        geometry = self.geometry("video", frames[0].shape[:2], len(frames))
        return geometry.filled(pixel_values, lambda n: [frames[n]])

    def marker(self, kind: str, medium: Pixels | Features) -> str:
        shown = f"<img>{self.placeholders[kind]}</img>"
        if kind == "image":
            return shown
        return "\n".join(f"Frame{frame + 1}: {shown}" for frame in medium.shown)

    # --- tower --------------------------------------------------------------------------------

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        hidden_states = self.model.model.vision_tower(pixel_values, run=run)
        return self.model.model.multi_modal_projector(hidden_states)


def by_group(side: int) -> Tensor:
    """(patches,) a tile's patches in the order of their groups, as pixel shuffle joins them."""
    patches = torch.arange((side * JOINED) ** 2).view(side, JOINED, side, JOINED)
    return patches.transpose(1, 2).flatten()
