"""The forms of a medium before a tower over square tiles: tiles of an image, one padded square, frames.

Each has two layouts. In `grid` the survivors of a tile are taken as a smaller square grid, in raster order,
by the model's own packing; in `faithful` each survivor keeps its own row and column.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from illava_cli.models.families.anyres import (
    TileGrid,
    coarser,
    rescaled,
    square_extent,
    square_padding,
    tile_extents,
    tile_grid,
)
from illava_cli.models.forms import Expansion, Form, Layout
from illava_cli.models.hf import unpad_image
from illava_cli.models.survivors import Survivors
from illava_cli.reduction import Merge
from illava_cli.reduction.nearest import nearest
from illava_cli.trace import View


@dataclass(frozen=True)
class TileShape:
    """The tiles of a tower.

    Args:
        edge, patch: pixels along a tile and along a patch.
        most: tiles' worth of cells beyond which the model interpolates.
    """

    edge: int
    patch: int
    most: float = math.inf

    @property
    def side(self) -> int:
        """Cells along a tile."""
        return self.edge // self.patch


@dataclass(frozen=True)
class Tiled(Form):
    """Segments that are tiles of a medium of `size` (height, width)."""

    tile: TileShape
    size: tuple[int, int]

    @property
    def side(self) -> int:
        return self.tile.side

    @property
    def tokens(self) -> int:
        return self.side**2

    def view(self, **where) -> View:
        """A tile; the pixels after its last whole patch are not seen."""
        return View(self.side, self.side, covered=self.side * self.tile.patch / self.tile.edge, **where)

    def regrids(self, kept: int, layout: str) -> bool:
        """Whether the tokens of a tile are taken as a square grid: all of them, or in layout `grid`."""
        return kept == self.tokens or layout == "grid"

    def lay_out(self, survivors: Survivors, layout: str, newline: Tensor | None) -> Layout:
        kept = survivors.left
        if self.regrids(kept, layout):
            return self.grid(survivors, math.isqrt(kept), newline)
        return self.faithful(survivors, newline)

    @abstractmethod
    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        """The model's own packing, with `side` cells along a tile."""

    @abstractmethod
    def faithful(self, survivors: Survivors, newline: Tensor) -> Layout:
        """Survivors at their own places; a pooled grid keeps as large a share of them."""


@dataclass(frozen=True)
class Square(Tiled):
    """An image as one padded square, with a newline after it."""

    @property
    def segments(self) -> int:
        return 1

    def outside(self) -> Tensor:
        return square_padding(self.size, self.side)[None]

    def views(self) -> list[View]:
        return [self.view(extent=square_extent(self.size))]

    def expansion(self, kept: int, layout: str) -> Expansion:
        return Expansion(kept, 1)

    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        place = torch.arange(side**2, device=survivors.features.device)
        return with_final_newline(survivors.features[0], place, side**2 + 1, newline)

    def faithful(self, survivors: Survivors, newline: Tensor) -> Layout:
        return with_final_newline(survivors.features[0], survivors.place[0], self.tokens + 1, newline)


@dataclass(frozen=True)
class Tiles(Tiled):
    """An image as one tile that shows all of it, and tiles of its detail, whose rows end with newlines.

    Args:
        pinpoints: resolutions (height, width) that the image may be fitted into.
    """

    pinpoints: list[list[int]]
    ranks_newlines: ClassVar[bool] = True

    @cached_property
    def cells(self) -> TileGrid:
        """The tiles of detail, unmerged."""
        return self.cells_of(self.side)

    def cells_of(self, side: int) -> TileGrid:
        """The tiles of detail with `side` cells along each."""
        return tile_grid(self.size, self.pinpoints, self.tile.edge, side, self.tile.most)

    @property
    def segments(self) -> int:
        return 1 + self.cells.tile_rows * self.cells.tile_columns

    def outside(self) -> Tensor:
        whole = torch.zeros(1, self.tokens, dtype=torch.bool)
        return torch.cat([whole, self.cells.padding()])

    def views(self) -> list[View]:
        extents = tile_extents(self.size, self.pinpoints, self.tile.edge)
        return [self.view(), *(self.view(extent=extent, tile=tile) for tile, extent in extents.items())]

    def expansion(self, kept: int, layout: str) -> Expansion:
        if self.regrids(kept, layout):
            grid = self.cells_of(math.isqrt(kept))
            return Expansion(kept + grid.tokens - grid.out_height, grid.out_height)
        return Expansion(kept + self.left(kept)[1], self.cells.out_height)

    def left(self, kept: int) -> tuple[int, int]:
        """Survivors within the unpadded grid where `kept` of each tile are left, and after its pooling.

        Padding leaves a tile first, so that both are known from the image's size.
        """
        grid = self.cells
        cut = grid.padding().sum(1)
        inside = len(cut) * kept - int((cut - (self.tokens - kept)).clamp(min=0).sum())
        if not grid.interpolates:
            return inside, inside
        share = inside / (grid.height * grid.width)
        return inside, max(1, round(grid.out_height * grid.out_width * share))

    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        grid = self.cells_of(side)
        base, tiles = survivors.features[0], survivors.features[1:]
        cells = tiles.view(grid.tile_rows, grid.tile_columns, side, side, -1)
        cells = cells.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)  # (C, rows * side, columns * side)
        cells = unpad_image(cells, self.size)
        if grid.interpolates:
            cells = interpolate(cells[None], [grid.out_height, grid.out_width], mode="bilinear")[0]
        ends = newline[:, None, None].expand(-1, grid.out_height, 1)
        cells = torch.cat([cells, ends], dim=2).flatten(1).transpose(0, 1)
        embeds = torch.cat([base, cells])
        place = torch.arange(len(embeds), device=embeds.device)
        is_newline = (place >= len(base)) & ((place - len(base)) % (grid.out_width + 1) == grid.out_width)
        joined = None
        if survivors.traced:
            unpadded = Merge.select(grid.inside().reshape(1, -1), len(tiles) * side**2)
            cells = unpadded.then(coarser(grid.height, grid.width, grid.out_height, grid.out_width))
            joined = Merge.beside([Merge.identity(1, len(base)), cells]).to(embeds.device)
        return Layout(embeds, place, is_newline, len(embeds), joined=joined)

    def faithful(self, survivors: Survivors, newline: Tensor) -> Layout:
        grid, side = self.cells, self.side
        base, tiles = survivors.rows(slice(0, 1)), survivors.rows(slice(1, None))
        count, kept = tiles.place.shape
        tile = torch.arange(count, device=tiles.place.device)[:, None]
        row = tile // grid.tile_columns * side + tiles.place // side  # (tiles, n)
        column = tile % grid.tile_columns * side + tiles.place % side
        raster = (row * grid.tile_columns * side + column).masked_fill(
            tiles.padding, torch.iinfo(row.dtype).max
        )
        inside, m = self.left(kept)
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
        detail = with_row_newlines(features, row, column, grid.out_height, grid.out_width, newline)
        whole = base.place[0]
        return Layout(
            torch.cat([base.features[0], detail.embeds]),
            torch.cat([whole, detail.place + self.tokens]),
            torch.cat([torch.zeros_like(whole, dtype=torch.bool), detail.newline]),
            self.tokens + grid.tokens,
            torch.cat([torch.arange(kept, device=whole.device), detail.order + kept]),
            joined and Merge.beside([Merge.identity(1, kept, whole.device), joined]),
        )


@dataclass(frozen=True)
class Frames(Tiled):
    """Frames of a video, each pooled 2x2; the video ends with a newline, or each row of each frame does."""

    count: int
    row_newlines: bool = False

    @property
    def segments(self) -> int:
        return self.count

    def views(self) -> list[View]:
        return [self.view(frame=index) for index in range(self.count)]

    @property
    def pooled(self) -> int:
        """Cells along an unmerged frame after the pooling."""
        return math.ceil(self.side / 2)

    def left(self, kept: int) -> int:
        """Cells of a pooled frame that stay where `kept` of its tokens do."""
        return max(1, round(self.pooled**2 * kept / self.tokens))

    def expansion(self, kept: int, layout: str) -> Expansion:
        regrids = self.regrids(kept, layout)
        rows = math.ceil(math.isqrt(kept) / 2) if regrids else self.pooled
        cells = rows**2 if regrids else self.left(kept)
        return Expansion(self.count * cells, self.count * rows if self.row_newlines else 1)

    def condense(self, survivors: Survivors, layout: str) -> Survivors:
        """Frames are pooled at once: by the model's own rule, or the most attended survivors remain."""
        if self.regrids(survivors.left, layout):
            return self._interpolated(survivors, math.isqrt(survivors.left))
        m = self.left(survivors.left)
        row, column = survivors.place // self.side, survivors.place % self.side
        merge = Merge.from_assignment(nearest(survivors.scores, row, column, m), m)
        kept = replace(survivors, scores=None, padding=None).after(merge)
        row, column = (
            rescaled(x, self.side, self.pooled) for x in (kept.place // self.side, kept.place % self.side)
        )
        cell, order = (row * self.pooled + column).sort(dim=1, stable=True)
        joined = merge.then(Merge.select(order, m)) if survivors.traced else None
        return replace(kept.take(order), place=cell, pooled=joined)

    def _interpolated(self, survivors: Survivors, side: int) -> Survivors:
        out = math.ceil(side / 2)
        cells = survivors.features.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (F, C, side, side)
        features = interpolate(cells, size=[out] * 2, mode="bilinear").flatten(2).transpose(1, 2)
        place = torch.arange(out**2, device=features.device).expand(len(features), -1)
        joined = None
        if survivors.traced:
            joined = Merge.cat([coarser(side, side, out, out).to(features.device)] * len(features))
        # the decoder's cells are no tokens of the tower: nothing else rides along
        none = dict.fromkeys(("scores", "padding", "keys", "sizes"))
        return replace(survivors, features=features, place=place, pooled=joined, **none)

    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        return self._laid(survivors, math.ceil(side / 2), newline)

    def faithful(self, survivors: Survivors, newline: Tensor) -> Layout:
        return self._laid(survivors, self.pooled, newline)

    def _laid(self, survivors: Survivors, pooled: int, newline: Tensor) -> Layout:
        """Frames (F, n, C) at their places (F, n) among `pooled` x `pooled` cells each, with newlines."""
        start = torch.arange(self.count, device=survivors.place.device)[:, None] * pooled**2
        tokens, place = survivors.features.flatten(0, 1), (survivors.place + start).flatten()
        joined = survivors.pooled and Merge.beside([survivors.pooled])
        if not self.row_newlines:
            return with_final_newline(tokens, place, self.count * pooled**2 + 1, newline, joined)
        return with_row_newlines(
            tokens, place // pooled, place % pooled, self.count * pooled, pooled, newline, joined
        )


def with_final_newline(
    tokens: Tensor, place: Tensor, length: int, newline: Tensor, joined: Merge | None = None
) -> Layout:
    """Tokens (n, C) at their places (n,), and a newline in the last of `length`."""
    embeds = torch.cat([tokens, newline[None]])
    place = torch.cat([place, place.new_full((1,), length - 1)])
    is_newline = torch.arange(len(embeds), device=tokens.device) == len(tokens)
    return Layout(embeds, place, is_newline, length, joined=joined)


def with_row_newlines(
    features: Tensor,
    row: Tensor,
    column: Tensor,
    rows: int,
    columns: int,
    newline: Tensor,
    joined: Merge | None = None,
) -> Layout:
    """Survivors (n, C) at their cells of a grid, each of whose rows keeps its newline."""
    width = columns + 1
    ends = torch.arange(rows, device=row.device) * width + columns
    place = torch.cat([row * width + column, ends])
    is_newline = torch.arange(len(place), device=row.device) >= len(row)
    order = place.argsort(stable=True)
    embeds = torch.cat([features, newline.expand(rows, -1)])[order]
    return Layout(embeds, place[order], is_newline[order], rows * width, order, joined)
