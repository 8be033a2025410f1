"""LLaVA-OneVision: a SigLIP tower over tiles or frames, an MLP projector, a Qwen2 decoder.

An image is one tile that shows all of it and, when it is the only one, tiles of its detail; a row of
the tiles' grid ends with a newline embedding. Frames of a video are pooled 2x2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.llava_onevision.modeling_llava_onevision import unpad_image

from illava_cli.config import MediaOptions, Reduction, VisionStage
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.anyres import TileGrid, square_padding, tile_grid
from illava_cli.models.attention import PLAIN
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.cache import NEWLINE, VISUAL
from illava_cli.models.decoder import prepare_decoder
from illava_cli.models.family import (
    Family,
    Features,
    Pixels,
    nearest_squares,
    normalised,
    per_layer,
)
from illava_cli.models.survivors import Survivors
from illava_cli.models.vision import BlockParts, TowerState, prepare_blocks, run_blocks
from illava_cli.reduction import Merge, gather_tokens
from illava_cli.reduction.nearest import nearest

TINY = 192  # hidden size of the embedded model, whose schedules are scaled to its six layers
SIGLIP_BLOCK = BlockParts("layer_norm1", "self_attn", "layer_norm2", "mlp")


@dataclass(frozen=True)
class Geometry:
    """How a medium is laid out: tiles, one padded square, or pooled frames."""

    form: str  # tiles, square, frames
    size: tuple[int, int]  # height, width
    pinpoints: list[list[int]] | None = None


class LlavaOnevision(Family):
    """`transformers`' LlavaOnevisionForConditionalGeneration with merge points."""

    key = "llava_onevision"
    image_processor_class = LlavaOnevisionImageProcessorPil
    markers: ClassVar = {"image": "<image>", "video": "<video>"}

    def prepare(self) -> None:
        config = self.model.config
        if not isinstance(config.vision_feature_layer, int):
            raise ModelError("vision_feature_layer is a list: features of several layers are not supported")
        if config.vision_feature_select_strategy != "full":
            raise ModelError(
                f"vision_feature_select_strategy {config.vision_feature_select_strategy!r} is not supported"
            )
        if config.vision_config.model_type != "siglip_vision_model":
            raise ModelError(f"a {config.vision_config.model_type} tower is not supported here, only SigLIP")
        if not re.fullmatch(r"anyres_max_\d+", config.vision_aspect_ratio):
            raise ModelError(f"vision_aspect_ratio {config.vision_aspect_ratio!r} is not supported")
        self.tile = config.vision_config.image_size
        self.side = self.tile // config.vision_config.patch_size
        self.max_tiles = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        tower = self.model.model.vision_tower
        prepare_blocks(self.tower_blocks(), SIGLIP_BLOCK, PLAIN)
        prepare_decoder(self.text_model, self.rope_axes)
        stock, depth = stock_forward(tower), self.tower_layers

        def forward(self, pixel_values, state=None, **kwargs):
            if state is None:
                return stock(pixel_values, **kwargs)
            hidden_states = self.embeddings(pixel_values)
            return run_blocks(
                self.encoder.layers[:depth], hidden_states, state, lambda _: {"attention_mask": None}
            )

        bind(tower, forward)

    @property
    def tower_layers(self) -> int:
        layer = self.model.config.vision_feature_layer
        return layer if layer >= 0 else self.model.config.vision_config.num_hidden_layers + 1 + layer

    @property
    def placeholder_ids(self) -> dict[int, str]:
        config = self.model.config
        return {config.image_token_id: "image", config.video_token_id: "video"}

    def tower_blocks(self) -> Iterable[nn.Module]:
        return self.model.model.vision_tower.encoder.layers[: self.tower_layers]

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 2 * config.intermediate_size
        return width * self.model.dtype.itemsize

    @classmethod
    def schedule_key(cls, hidden_size: int) -> str:
        return f"{cls.key}_tiny" if hidden_size == TINY else cls.key

    # --- pixels -------------------------------------------------------------------------------

    def prepare_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        limit = options.max_tiles
        size = (image.height, image.width)
        settings = {"return_tensors": "np", "do_pad": False}
        pinpoints = self.model.config.image_grid_pinpoints
        if not alone or limit == 1:
            # the processor tiles an image that is alone: a companion makes it one padded square
            batch = self.image_processor([[image, Image.new("RGB", (1, 1))]], **settings)
            geometry = Geometry("square", size)
        else:
            if limit is not None:
                fits = [p for p in pinpoints if p[0] * p[1] // self.tile**2 < limit]
                pinpoints = fits or [min(pinpoints, key=lambda p: p[0] * p[1])]
            batch = self.image_processor([image], image_grid_pinpoints=pinpoints, **settings)
            geometry = Geometry("tiles", size, pinpoints)
        values = torch.from_numpy(np.asarray(batch["pixel_values"][0]))  # (tiles, 3, S, S)
        tokens = self.side**2
        shape = ("tile", *values.shape[1:])
        return Pixels("image", len(values), tokens, shape, lambda a, b: values[a:b], geometry)

    def resize_frame(self, frame: np.ndarray) -> np.ndarray:
        # the video processor squashes a frame to the tile: no aspect kept, no crop
        image = Image.fromarray(frame).resize((self.tile, self.tile), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def prepare_video(self, frames: list[np.ndarray]) -> Pixels:
        def pixel_values(start: int, stop: int) -> Tensor:
            values = torch.from_numpy(np.stack(frames[start:stop])).permute(0, 3, 1, 2)
            return normalised(values, self.video_settings, channel=1)

        geometry = Geometry("frames", frames[0].shape[:2])
        shape = ("frame", 3, self.tile, self.tile)
        return Pixels("video", len(frames), self.side**2, shape, pixel_values, geometry)

    # --- tower --------------------------------------------------------------------------------

    def budget(self, stage: VisionStage, tokens: int) -> dict[int, int]:
        if stage.drop is not None:
            raise UsageError(
                "vision.drop is for Qwen2-VL: give vision.r, the tokens removed per layer and tile"
            )
        budget = dict(zip(stage.layers, per_layer(stage.r, stage.layers, "vision.r"), strict=True))
        left = tokens
        for layer, r in sorted(budget.items()):
            if r >= left:
                raise UsageError(
                    f"vision.r: cannot remove {r} of the {left} tokens that a tile has at layer {layer}"
                )
            left -= r
        return budget

    def check_vision(self, stage: VisionStage, reduction: Reduction) -> None:
        super().check_vision(stage, reduction)
        left = self.side**2 - sum(self.budget(stage, self.side**2).values())
        if reduction.layout == "grid":
            if reduction.positions == "original":
                raise UsageError(
                    "positions 'original' needs layout 'faithful': a re-formed grid has no places"
                )
            if math.isqrt(left) ** 2 != left:
                raise UsageError(
                    f"vision.r leaves {left} tokens a tile, no square grid: remove so many that "
                    f"{nearest_squares(left)} remain, or set layout: faithful"
                )

    def padding(self, pixels: Pixels, reduction: Reduction) -> Tensor | None:
        geometry: Geometry = pixels.geometry
        if reduction.layout == "grid" or geometry.form == "frames":
            return None
        if geometry.form == "square":
            return square_padding(geometry.size, self.side)[None]
        whole = torch.zeros(1, self.side**2, dtype=torch.bool)
        return torch.cat([whole, self._grid(geometry, self.side).padding()])

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, state: TowerState) -> Tensor:
        hidden_states = self.model.model.vision_tower(pixel_values, state=state)
        return self.model.model.multi_modal_projector(hidden_states)

    def _regrids(self, kept: int, reduction: Reduction) -> bool:
        """Whether the tokens of a tile are taken as a square grid: all of them, or in layout `grid`."""
        return kept == self.side**2 or reduction.layout == "grid"

    def condense(self, pixels: Pixels, survivors: Survivors, reduction: Reduction) -> Survivors:
        """Frames are pooled at once: by the model's own rule, or the most attended survivors remain."""
        if pixels.geometry.form != "frames":
            return survivors
        if self._regrids(survivors.left, reduction):
            side = math.isqrt(survivors.left)
            cells = survivors.features.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (F, C, side, side)
            pooled = interpolate(cells, size=[math.ceil(side / 2)] * 2, mode="bilinear")
            features = pooled.flatten(2).transpose(1, 2)
            place = torch.arange(features.shape[1], device=features.device).expand(len(features), -1)
        else:
            pooled = math.ceil(self.side / 2)
            m = max(1, round(pooled**2 * survivors.left / self.side**2))
            row, column = survivors.place // self.side, survivors.place % self.side
            merge = Merge.from_assignment(nearest(survivors.scores, row, column, m), m)
            row, column = (_rescaled(merge.keep(x), self.side, pooled) for x in (row, column))
            place, order = (row * pooled + column).sort(dim=1, stable=True)
            features = gather_tokens(merge.apply(survivors.features), order)  # (F, m, C)
        return replace(survivors, features=features, place=place, scores=None, padding=None)

    # --- layout -------------------------------------------------------------------------------

    def _grid(self, geometry: Geometry, side: int) -> TileGrid:
        return tile_grid(geometry.size, geometry.pinpoints, self.tile, side, self.max_tiles)

    def _newline(self, like: Tensor) -> Tensor:
        module = self.model.model
        if hasattr(module, "_hf_hook"):  # the weights may be offloaded
            from accelerate.utils import align_module_device as at_hand
        else:
            at_hand = nullcontext
        with at_hand(module):
            return module.image_newline.to(like.device, like.dtype)

    def lay_out(self, pixels: Pixels, survivors: Survivors, reduction: Reduction) -> Features:
        geometry: Geometry = pixels.geometry
        kept = survivors.left
        if self._regrids(kept, reduction):
            parts = _FORMS_GRID[geometry.form](self, geometry, survivors.features, math.isqrt(kept))
        else:
            parts = _FORMS_FAITHFUL[geometry.form](self, geometry, survivors)
        embeds, place, newline, length = parts
        newlines = self._count_newlines(geometry, kept, reduction)
        row_newlines = reduction.variant == "authors" and geometry.form == "tiles"
        rankable = torch.ones_like(newline) if row_newlines else ~newline
        visual = embeds.shape[0] - newlines
        return Features(
            embeds=embeds,
            kinds=torch.where(newline, NEWLINE, VISUAL).to(torch.int8),
            rankable=rankable,
            candidates=embeds.shape[0] if row_newlines else visual,
            place=place,
            length=length,
            patches=pixels.segments * pixels.tokens,
            vision_kept=pixels.segments * kept,
            visual=visual,
            newlines=newlines,
            merges=survivors.merges,
        )

    def _count_newlines(self, geometry: Geometry, kept: int, reduction: Reduction) -> int:
        if geometry.form != "tiles":
            return 1
        side = math.isqrt(kept) if reduction.layout == "grid" else self.side
        return self._grid(geometry, side).out_height

    def _tiles_grid(self, geometry: Geometry, features: Tensor, side: int):
        """The model's own packing, with `side` cells along a tile: (T, C), places, newlines, length."""
        grid = self._grid(geometry, side)
        base, tiles = features[0], features[1:]
        cells = tiles.view(grid.tile_rows, grid.tile_columns, side, side, -1)
        cells = cells.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)  # (C, rows * side, columns * side)
        cells = unpad_image(cells, geometry.size)
        if grid.interpolates:
            cells = interpolate(cells[None], [grid.out_height, grid.out_width], mode="bilinear")[0]
        newline = self._newline(cells)[:, None, None].expand(-1, grid.out_height, 1)
        cells = torch.cat([cells, newline], dim=2).flatten(1).transpose(0, 1)
        embeds = torch.cat([base, cells])
        place = torch.arange(len(embeds), device=embeds.device)
        is_newline = (place >= len(base)) & ((place - len(base)) % (grid.out_width + 1) == grid.out_width)
        return embeds, place, is_newline, len(embeds)

    def _square_grid(self, geometry: Geometry, features: Tensor, side: int):
        return self._with_final_newline(features[0])

    def _frames_grid(self, geometry: Geometry, features: Tensor, side: int):
        return self._with_final_newline(features.flatten(0, 1))

    def _with_final_newline(self, tokens: Tensor, place: Tensor | None = None, length: int | None = None):
        embeds = torch.cat([tokens, self._newline(tokens)[None]])
        length = len(embeds) if length is None else length
        if place is None:
            place = torch.arange(len(tokens), device=tokens.device)
        place = torch.cat([place, place.new_full((1,), length - 1)])
        newline = torch.arange(len(embeds), device=tokens.device) == len(tokens)
        return embeds, place, newline, length

    def _tiles_faithful(self, geometry: Geometry, survivors: Survivors):
        """Survivors at their own places; a pooled grid keeps as large a share of them."""
        grid = self._grid(geometry, self.side)
        base, tiles = survivors.rows(0, 1), survivors.rows(1, None)
        count, kept = tiles.place.shape
        tile = torch.arange(count, device=tiles.place.device)[:, None]
        row = tile // grid.tile_columns * self.side + tiles.place // self.side  # (tiles, n)
        column = tile % grid.tile_columns * self.side + tiles.place % self.side
        raster = (row * grid.tile_columns * self.side + column).masked_fill(
            tiles.padding, torch.iinfo(row.dtype).max
        )
        removed = self.side**2 - kept
        cut = grid.padding().sum(1)
        inside = count * kept - int((cut - removed).clamp(min=0).sum())  # known from the image's size
        order = raster.flatten().argsort()[:inside]
        row, column = row.flatten()[order] - grid.top, column.flatten()[order] - grid.left
        features = tiles.features.flatten(0, 1)[order]
        if grid.interpolates:
            share = inside / (grid.height * grid.width)
            m = max(1, round(grid.out_height * grid.out_width * share))
            scores = tiles.scores.flatten()[order]
            merge = Merge.from_assignment(nearest(scores[None], row[None], column[None], m), m)
            features = merge.apply(features[None])[0]
            row, column = (merge.keep(x[None])[0] for x in (row, column))
            row = _rescaled(row, grid.height, grid.out_height)
            column = _rescaled(column, grid.width, grid.out_width)
        width = grid.out_width + 1
        ends = torch.arange(grid.out_height, device=row.device) * width + grid.out_width
        place = torch.cat([row * width + column, ends])
        newline = torch.arange(len(place), device=row.device) >= len(row)
        order = place.argsort(stable=True)
        embeds = torch.cat([features, self._newline(features).expand(grid.out_height, -1)])[order]
        whole = base.place[0]
        return (
            torch.cat([base.features[0], embeds]),
            torch.cat([whole, place[order] + self.side**2]),
            torch.cat([torch.zeros_like(whole, dtype=torch.bool), newline[order]]),
            self.side**2 + grid.tokens,
        )

    def _square_faithful(self, geometry: Geometry, survivors: Survivors):
        return self._with_final_newline(survivors.features[0], survivors.place[0], self.side**2 + 1)

    def _frames_faithful(self, geometry: Geometry, survivors: Survivors):
        frames, cells = len(survivors.place), math.ceil(self.side / 2) ** 2
        start = torch.arange(frames, device=survivors.place.device)[:, None] * cells
        place = (survivors.place + start).flatten()
        return self._with_final_newline(survivors.features.flatten(0, 1), place, frames * cells + 1)


def _rescaled(place: Tensor, cells: int, out: int) -> Tensor:
    """The cell of a grid of `out` rows (or columns) in which the centre of a finer one of `cells` lies."""
    return (2 * place + 1) * out // (2 * cells)


_FORMS_GRID = {
    "tiles": LlavaOnevision._tiles_grid,
    "square": LlavaOnevision._square_grid,
    "frames": LlavaOnevision._frames_grid,
}
_FORMS_FAITHFUL = {
    "tiles": LlavaOnevision._tiles_faithful,
    "square": LlavaOnevision._square_faithful,
    "frames": LlavaOnevision._frames_faithful,
}
