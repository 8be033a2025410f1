"""What LLaVA-NeXT and LLaVA-OneVision share: a tower over tiles, an MLP projector, and the tiles' layout.

An image is one tile that shows all of it, and tiles of its detail; a row of the tiles' grid ends with a
newline embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from illava_cli.config import MediaOptions
from illava_cli.errors import ModelError
from illava_cli.models.anyres import (
    TileGrid,
    coarser,
    rescaled,
    square_box,
    square_padding,
    tile_boxes,
    tile_grid,
)
from illava_cli.models.attention import PLAIN
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.cache import NEWLINE, VISUAL
from illava_cli.models.decoder import prepare_decoder
from illava_cli.models.family import Family, Features, Pixels, Survivors
from illava_cli.models.hf import unpad_image
from illava_cli.models.schedule import Schedule
from illava_cli.models.shape import Expansion, Projector, TowerShape
from illava_cli.models.tower import BlockParts, TowerPass, install_taps, run_blocks
from illava_cli.reduction import Merge
from illava_cli.reduction.nearest import nearest
from illava_cli.trace import View


@dataclass(frozen=True)
class Tower:
    """What differs between the towers.

    Args:
        class_tokens: tokens before the patches; features are taken of the patches only.
        strategy: the `vision_feature_select_strategy` that says so.
        pre_norm: name of the norm between embeddings and blocks, if there is one.
    """

    class_tokens: int
    strategy: str
    pre_norm: str | None = None


# by the `model_type` of a vision config
TOWERS = {
    "siglip_vision_model": Tower(0, "full"),
    "clip_vision_model": Tower(1, "default", "pre_layrnorm"),
}


@dataclass(frozen=True)
class Geometry:
    """How a medium is laid out: tiles, one padded square, or pooled frames."""

    form: str  # tiles, square, frames
    size: tuple[int, int]  # height, width
    pinpoints: list[list[int]] | None = None


@dataclass(frozen=True)
class Layout:
    """A medium's decoder tokens.

    Args:
        embeds: (T, C) image tokens and newlines.
        place: (T,) their places in the unmerged medium.
        newline: (T,) which are newlines.
        length: the unmerged length.
        order: (T,) which image token stands there, newlines counted behind them; None: they are in order.
        joined: what became of the survivors before, (1, survivors) to (1, image tokens), where that is
            traced; None: they are the image tokens.
    """

    embeds: Tensor
    place: Tensor
    newline: Tensor
    length: int
    order: Tensor | None = None
    joined: Merge | None = None

    def origin(self) -> Merge:
        """(1, survivors) to (1, T)."""
        order = (~self.newline).cumsum(0) - 1 if self.order is None else self.order
        tokens = len(order) - int(self.newline.sum())
        placed = Merge.select(order.where(~self.newline, -1)[None], tokens)
        return placed if self.joined is None else self.joined.then(placed)


class Llava(Family):
    """A LLaVA with tiles; `forms` names a layout's methods by form, for `grid` and for `faithful`."""

    block_parts = BlockParts("layer_norm1", "self_attn", "layer_norm2", "mlp")
    max_tiles: float = math.inf  # tiles' worth of cells beyond which the model interpolates
    forms: ClassVar = {
        "tiles": ("_tiles_grid", "_tiles_faithful"),
        "square": ("_square_grid", "_square_faithful"),
    }

    def prepare(self) -> None:
        config = self.model.config
        if not isinstance(config.vision_feature_layer, int):
            raise ModelError("vision_feature_layer is a list: features of several layers are not supported")
        kind = config.vision_config.model_type
        if kind not in TOWERS:
            raise ModelError(f"a {kind} tower is not supported (there are: {', '.join(TOWERS)})")
        parts = TOWERS[kind]
        if config.vision_feature_select_strategy != parts.strategy:
            raise ModelError(
                f"vision_feature_select_strategy {config.vision_feature_select_strategy!r} is not supported "
                f"with a {kind} tower, only {parts.strategy!r}"
            )
        # the LLaVA repository does, and there a Llama begins each run with a prefix space
        self.encodes_apart = hasattr(config, "mm_vision_tower")
        self.class_tokens = parts.class_tokens
        self.tile = config.vision_config.image_size
        self.patch = config.vision_config.patch_size
        self.side = self.tile // self.patch
        self.tile_tokens = self.side**2
        tower = self.model.model.vision_tower
        install_taps(self.tower_blocks(), self.block_parts, PLAIN)
        prepare_decoder(self.text_model, self.rope_axes)
        stock, depth, block_parts = stock_forward(tower), self.tower_layers, self.block_parts

        def forward(self, pixel_values, run=None, **kwargs):
            if run is None:
                return stock(pixel_values, **kwargs)
            hidden_states = self.embeddings(pixel_values)
            if parts.pre_norm is not None:
                hidden_states = getattr(self, parts.pre_norm)(hidden_states)
            # blocks behind the layer that makes the features are not run
            blocks = self.encoder.layers[:depth]
            hidden_states = run_blocks(
                blocks, block_parts, hidden_states, run, lambda *_: {"attention_mask": None}
            )
            return hidden_states[:, parts.class_tokens :]

        bind(tower, forward)

    @property
    def tower_layers(self) -> int:
        layer = self.model.config.vision_feature_layer
        return layer if layer >= 0 else self.model.config.vision_config.num_hidden_layers + 1 + layer

    def tower_blocks(self) -> Iterable[nn.Module]:
        return self.model.model.vision_tower.encoder.layers[: self.tower_layers]

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 2 * config.intermediate_size
        return width * self.model.dtype.itemsize

    # --- pixels -------------------------------------------------------------------------------

    def prepare_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        size = (image.height, image.width)
        pinpoints = self._pinpoints(options, alone)
        if pinpoints:
            geometry = Geometry("tiles", size, pinpoints)
            values = self._tiles(image, pinpoints)
        else:
            geometry = Geometry("square", size)
            values = self._tiles(self._squared(image), [[self.tile, self.tile]])[:1]
        tokens = self.side**2
        shape = ("tile", *values.shape[1:])
        return Pixels("image", len(values), tokens, shape, lambda a, b: values[a:b], geometry)

    def prepare_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        """A region has its share of the image's tiles: by itself it would be enlarged to as many."""
        if pinpoints := self._pinpoints(options, alone):
            grid = self._grid(Geometry("tiles", whole, pinpoints), self.side)
            share = image.width * image.height / (whole[0] * whole[1])
            tiles = max(1, round(share * (1 + grid.tile_rows * grid.tile_columns)))
            options = options.model_copy(update={"max_tiles": tiles})
        return self.prepare_image(image, options, alone)

    def _pinpoints(self, options: MediaOptions, alone: bool) -> list[list[int]]:
        """The resolutions (height, width) that an image may be tiled to; none: it is one padded square."""
        pinpoints = self.model.config.image_grid_pinpoints
        if options.max_tiles is None:
            return pinpoints
        return [p for p in pinpoints if p[0] * p[1] // self.tile**2 < options.max_tiles]

    def _tiles(self, image: Image.Image, pinpoints: list[list[int]]) -> Tensor:
        """(tiles, 3, S, S): the whole image squashed to a tile, and tiles of its detail."""
        batch = self.image_processor(
            [image], image_grid_pinpoints=pinpoints, do_pad=False, return_tensors="np"
        )
        return torch.from_numpy(np.asarray(batch["pixel_values"][0]))

    def _squared(self, image: Image.Image) -> Image.Image:
        """`image` in the middle of a square of the processor's mean colour."""
        edge = max(image.size)
        square = Image.new("RGB", (edge, edge), tuple(int(x * 255) for x in self.image_processor.image_mean))
        square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
        return square

    # --- tower --------------------------------------------------------------------------------

    def outside(self, pixels: Pixels) -> Tensor | None:
        geometry: Geometry = pixels.geometry
        if geometry.form == "frames":
            return None
        if geometry.form == "square":
            return square_padding(geometry.size, self.side)[None]
        whole = torch.zeros(1, self.side**2, dtype=torch.bool)
        return torch.cat([whole, self._grid(geometry, self.side).padding()])

    def padding(self, pixels: Pixels, schedule: Schedule) -> Tensor | None:
        return None if schedule.layout == "grid" else self.outside(pixels)

    def views(self, pixels: Pixels) -> list[View]:
        geometry: Geometry = pixels.geometry
        whole = View(self.side, self.side, covered=self.side * self.patch / self.tile)
        if geometry.form == "frames":
            return [replace(whole, frame=index) for index in range(pixels.segments)]
        if geometry.form == "square":
            return [replace(whole, box=square_box(geometry.size))]
        boxes = tile_boxes(geometry.size, geometry.pinpoints, self.tile)
        return [whole, *(replace(whole, box=box, tile=tile) for tile, box in boxes.items())]

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        hidden_states = self.model.model.vision_tower(pixel_values, run=run)
        return self.model.model.multi_modal_projector(hidden_states)

    def _regrids(self, kept: int, schedule: Schedule) -> bool:
        """Whether the tokens of a tile are taken as a square grid: all of them, or in layout `grid`."""
        return kept == self.side**2 or schedule.layout == "grid"

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

    def lay_out(self, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Features:
        geometry: Geometry = pixels.geometry
        kept = survivors.left
        grid, faithful = self.forms[geometry.form]
        if self._regrids(kept, schedule):
            layout: Layout = getattr(self, grid)(geometry, survivors, math.isqrt(kept))
        else:
            layout = getattr(self, faithful)(geometry, survivors)
        embeds, newline = layout.embeds, layout.newline
        visual, newlines = self.expansion(pixels, kept, schedule)
        row_newlines = schedule.authors and geometry.form == "tiles"
        rankable = torch.ones_like(newline) if row_newlines else ~newline
        return Features(
            embeds=embeds,
            kinds=torch.where(newline, NEWLINE, VISUAL).to(torch.int8),
            rankable=rankable,
            candidates=embeds.shape[0] if row_newlines else visual,
            place=layout.place,
            length=layout.length,
            patches=pixels.segments * pixels.tokens,
            vision_kept=pixels.segments * schedule.after_tower(pixels.tokens),
            visual=visual,
            newlines=newlines,
            merges=survivors.merges,
            attention=survivors.attention,
            layout=layout.origin() if survivors.traced else None,
        )

    def expansion(self, pixels: Pixels, kept: int, schedule: Schedule) -> Expansion:
        geometry: Geometry = pixels.geometry
        if geometry.form == "square":
            return Expansion(kept, 1)
        if self._regrids(kept, schedule):
            grid = self._grid(geometry, math.isqrt(kept))
            return Expansion(kept + grid.tokens - grid.out_height, grid.out_height)
        grid = self._grid(geometry, self.side)
        return Expansion(kept + self._cells(grid, kept)[1], grid.out_height)

    def _cells(self, grid: TileGrid, kept: int) -> tuple[int, int]:
        """Survivors within an unpadded grid where `kept` of each tile are left, and behind its pooling.

        Padding leaves a tile first, so that both are known from the image's size.
        """
        cut = grid.padding().sum(1)
        inside = len(cut) * kept - int((cut - (self.side**2 - kept)).clamp(min=0).sum())
        if not grid.interpolates:
            return inside, inside
        share = inside / (grid.height * grid.width)
        return inside, max(1, round(grid.out_height * grid.out_width * share))

    def _tiles_grid(self, geometry: Geometry, survivors: Survivors, side: int) -> Layout:
        """The model's own packing, with `side` cells along a tile."""
        grid = self._grid(geometry, side)
        base, tiles = survivors.features[0], survivors.features[1:]
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
        joined = None
        if survivors.traced:
            unpadded = Merge.select(grid.inside().reshape(1, -1), len(tiles) * side**2)
            cells = unpadded.then(coarser(grid.height, grid.width, grid.out_height, grid.out_width))
            joined = Merge.beside([Merge.identity(1, len(base)), cells]).to(embeds.device)
        return Layout(embeds, place, is_newline, len(embeds), joined=joined)

    def _square_grid(self, geometry: Geometry, survivors: Survivors, side: int) -> Layout:
        return self._with_final_newline(survivors.features[0])

    def _with_final_newline(
        self,
        tokens: Tensor,
        place: Tensor | None = None,
        length: int | None = None,
        joined: Merge | None = None,
    ) -> Layout:
        embeds = torch.cat([tokens, self._newline(tokens)[None]])
        length = len(embeds) if length is None else length
        if place is None:
            place = torch.arange(len(tokens), device=tokens.device)
        place = torch.cat([place, place.new_full((1,), length - 1)])
        newline = torch.arange(len(embeds), device=tokens.device) == len(tokens)
        return Layout(embeds, place, newline, length, joined=joined)

    def _tiles_faithful(self, geometry: Geometry, survivors: Survivors) -> Layout:
        """Survivors at their own places; a pooled grid keeps as large a share of them."""
        grid = self._grid(geometry, self.side)
        base, tiles = survivors.rows(slice(0, 1)), survivors.rows(slice(1, None))
        count, kept = tiles.place.shape
        tile = torch.arange(count, device=tiles.place.device)[:, None]
        row = tile // grid.tile_columns * self.side + tiles.place // self.side  # (tiles, n)
        column = tile % grid.tile_columns * self.side + tiles.place % self.side
        raster = (row * grid.tile_columns * self.side + column).masked_fill(
            tiles.padding, torch.iinfo(row.dtype).max
        )
        inside, m = self._cells(grid, kept)
        order = raster.flatten().argsort()[:inside]
        row, column = row.flatten()[order] - grid.top, column.flatten()[order] - grid.left
        features = tiles.features.flatten(0, 1)[order]
        joined = Merge.select(order[None], count * kept) if survivors.traced else None
        if grid.interpolates:
            scores = tiles.scores.flatten()[order]
            merge = Merge.from_assignment(nearest(scores[None], row[None], column[None], m), m)
            features = merge.apply(features[None])[0]
            joined = joined and joined.then(merge)
            row, column = (merge.keep(x[None])[0] for x in (row, column))
            row = rescaled(row, grid.height, grid.out_height)
            column = rescaled(column, grid.width, grid.out_width)
        detail = self._with_row_newlines(features, row, column, grid.out_height, grid.out_width)
        whole = base.place[0]
        return Layout(
            torch.cat([base.features[0], detail.embeds]),
            torch.cat([whole, detail.place + self.side**2]),
            torch.cat([torch.zeros_like(whole, dtype=torch.bool), detail.newline]),
            self.side**2 + grid.tokens,
            torch.cat([torch.arange(kept, device=whole.device), detail.order + kept]),
            joined and Merge.beside([Merge.identity(1, kept, whole.device), joined]),
        )

    def _with_row_newlines(
        self,
        features: Tensor,
        row: Tensor,
        column: Tensor,
        rows: int,
        columns: int,
        joined: Merge | None = None,
    ) -> Layout:
        """Survivors (n, C) at their cells of a grid, each of whose rows keeps its newline."""
        width = columns + 1
        ends = torch.arange(rows, device=row.device) * width + columns
        place = torch.cat([row * width + column, ends])
        newline = torch.arange(len(place), device=row.device) >= len(row)
        order = place.argsort(stable=True)
        embeds = torch.cat([features, self._newline(features).expand(rows, -1)])[order]
        return Layout(embeds, place[order], newline[order], rows * width, order, joined)

    def _square_faithful(self, geometry: Geometry, survivors: Survivors) -> Layout:
        return self._with_final_newline(survivors.features[0], survivors.place[0], self.side**2 + 1)

    # --- the unmodified model -----------------------------------------------------------------

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision, width = self.model.config.vision_config, self.text_config.hidden_size
        values = vision.num_channels * vision.patch_size**2
        tower = TowerShape(
            vision.hidden_size,
            vision.intermediate_size,
            vision.num_hidden_layers,
            values,
            class_tokens=self.class_tokens,
        )
        return tower, ((vision.hidden_size, width), (width, width))
