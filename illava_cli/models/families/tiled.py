"""The forms of an image before a tower over square tiles: tiles of it, or one padded square.

Each has two layouts. In `grid` the survivors of a tile are taken as a smaller square grid, in raster order,
by the model's own packing; in `faithful` each survivor keeps its own row and column.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
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
from illava_cli.models.families.newlines import with_final_newline, with_row_newlines
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

    def regrids(self, kept: Sequence[int], layout: str) -> bool:
        """Whether the tokens of a tile are taken as a square grid: all of them, or in layout `grid`."""
        return layout == "grid" or all(tokens == self.tokens for tokens in kept)

    def lay_out(
        self, survivors: Survivors, layout: str, newline: Tensor | None, entered: Tensor | None = None
    ) -> Layout:
        kept = survivors.counts
        if self.regrids(kept, layout):
            return self.grid(survivors, math.isqrt(kept[0]), newline)
        return self.faithful(survivors, newline, entered)

    @abstractmethod
    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        """The model's own packing, with `side` cells along a tile."""

    @abstractmethod
    def faithful(self, survivors: Survivors, newline: Tensor, entered: Tensor | None) -> Layout:
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

    def expansion(self, kept: Sequence[int], layout: str, entered: Tensor | None = None) -> Expansion:
        return Expansion(*kept, 1)

    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        place = torch.arange(side**2, device=survivors.features.device)
        return with_final_newline(survivors.features[0], place, side**2 + 1, newline)

    def faithful(self, survivors: Survivors, newline: Tensor, entered: Tensor | None) -> Layout:
        return with_final_newline(survivors.features[0], survivors.place[0], self.tokens + 1, newline)


@dataclass(frozen=True)
class Tiles(Tiled):
    """An image as one tile that shows all of it, and tiles of its detail, whose rows end with newlines.

    Args:
        pinpoints: resolutions (height, width) that the image may be fitted into.
    """

    pinpoints: list[list[int]]
    ranks_newlines: ClassVar[bool] = True

    @property
    def pools(self) -> bool:
        return self.detail.interpolates

    @cached_property
    def detail(self) -> TileGrid:
        """The tiles of detail, unmerged."""
        return self.detail_of(self.side)

    def detail_of(self, side: int) -> TileGrid:
        """The tiles of detail with `side` cells along each."""
        return tile_grid(self.size, self.pinpoints, self.tile.edge, side, self.tile.most)

    @property
    def segments(self) -> int:
        return 1 + self.detail.tile_rows * self.detail.tile_columns

    def outside(self) -> Tensor:
        whole = torch.zeros(1, self.tokens, dtype=torch.bool)
        return torch.cat([whole, self.detail.padding()])

    def views(self) -> list[View]:
        extents = tile_extents(self.size, self.pinpoints, self.tile.edge)
        return [self.view(), *(self.view(extent=extent, tile=tile) for tile, extent in extents.items())]

    def expansion(self, kept: Sequence[int], layout: str, entered: Tensor | None = None) -> Expansion:
        if self.regrids(kept, layout):
            grid = self.detail_of(math.isqrt(kept[0]))
            return Expansion(kept[0] + grid.tokens - grid.out_height, grid.out_height)
        inside = self.inside(kept, entered)
        return Expansion(kept[0] + self.pooled(inside), self.detail.out_height)

    def inside(self, kept: Sequence[int], entered: Tensor | None) -> int:
        """Survivors within the unpadded grid where so many of each tile are left.

        Padding leaves a tile first, so that their number is known from the image.
        """
        padding, seen = self.detail.padding(), torch.full((self.segments - 1,), self.tokens)
        if entered is not None:
            padding, seen = padding & entered[1:], entered[1:].sum(1)
        left = torch.tensor(kept[1:])
        return int((left - (padding.sum(1) - (seen - left)).clamp(min=0)).sum())

    def pooled(self, inside: int) -> int:
        """Cells that stay of so many survivors where the model interpolates."""
        grid = self.detail
        if not grid.interpolates:
            return inside
        share = inside / (grid.height * grid.width)
        return max(1, round(grid.out_height * grid.out_width * share))

    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        grid = self.detail_of(side)
        base, *tiles = survivors.features[0].split(side**2)
        cells = torch.stack(tiles).view(grid.tile_rows, grid.tile_columns, side, side, -1)
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

    def faithful(self, survivors: Survivors, newline: Tensor, entered: Tensor | None) -> Layout:
        grid, side, kept = self.detail, self.side, survivors.counts[0]
        whole, tiles = survivors.between(0, kept), survivors.between(kept, sum(survivors.counts))
        tile, place = tiles.place[0] // self.tokens - 1, tiles.place[0] % self.tokens
        row = tile // grid.tile_columns * side + place // side  # (n,)
        column = tile % grid.tile_columns * side + place % side
        raster = (row * grid.tile_columns * side + column).masked_fill(
            tiles.padding[0], torch.iinfo(row.dtype).max
        )
        inside = self.inside(survivors.counts, entered)
        order = raster.argsort()[:inside]
        row, column = row[order] - grid.top, column[order] - grid.left
        features = tiles.features[0][order]
        joined = Merge.select(order[None], len(place)) if survivors.traced else None
        if grid.interpolates:
            m = self.pooled(inside)
            scores = tiles.scores[0][order]
            merge = Merge.from_assignment(nearest(scores[None], row[None], column[None], m), m)
            features = merge.apply(features[None])[0]
            joined = joined and joined.then(merge)
            row, column = (merge.keep(x[None])[0] for x in (row, column))
            row = rescaled(row, grid.height, grid.out_height)
            column = rescaled(column, grid.width, grid.out_width)
        detail = with_row_newlines(features, row, column, grid.out_height, grid.out_width, newline)
        base = whole.place[0]
        return Layout(
            torch.cat([whole.features[0], detail.embeds]),
            torch.cat([base, detail.place + self.tokens]),
            torch.cat([torch.zeros_like(base, dtype=torch.bool), detail.newline]),
            self.tokens + grid.tokens,
            torch.cat([torch.arange(kept, device=base.device), detail.order + kept]),
            joined and Merge.beside([Merge.identity(1, kept, base.device), joined]),
        )
