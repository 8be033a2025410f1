"""Geometry of tiled images: which cells the model unpads, pools and ends with a newline.

Everything here is known on the host from the image's size. Cropping is `transformers`' own
`unpad_image`, run on the cells' numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from illava_cli.models.hf import (
    ChannelDimension,
    get_anyres_image_grid_shape,
    get_patch_output_size,
    select_best_resolution,
    unpad_image,
)
from illava_cli.reduction import Merge
from illava_cli.trace import Extent


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image as one grid of cells.

    Args:
        tile_rows, tile_columns: tiles.
        side: cells along a tile's edge.
        height, width: cells of the unpadded grid.
        top, left: cells that unpadding cuts off before it.
        out_height, out_width: cells that the decoder sees, after interpolation if there is any.
    """

    tile_rows: int
    tile_columns: int
    side: int
    height: int
    width: int
    top: int
    left: int
    out_height: int
    out_width: int

    @property
    def interpolates(self) -> bool:
        return (self.out_height, self.out_width) != (self.height, self.width)

    @property
    def tokens(self) -> int:
        """Cells and newlines that the decoder sees."""
        return self.out_height * (self.out_width + 1)

    def inside(self) -> Tensor:
        """(height, width) number of each unpadded cell, counted through the tiles."""
        tiles = torch.arange(self.tile_rows * self.tile_columns * self.side**2)
        cells = tiles.view(self.tile_rows, self.tile_columns, self.side, self.side).transpose(1, 2)
        cells = cells.reshape(self.tile_rows * self.side, self.tile_columns * self.side)
        return cells[self.top : self.top + self.height, self.left : self.left + self.width]

    def padding(self) -> Tensor:
        """(tiles, side * side) True for the cells that unpadding cuts off."""
        cells = torch.ones(self.tile_rows * self.side, self.tile_columns * self.side, dtype=torch.bool)
        cells[self.top : self.top + self.height, self.left : self.left + self.width] = False
        tiles = cells.view(self.tile_rows, self.side, self.tile_columns, self.side).transpose(1, 2)
        return tiles.reshape(-1, self.side * self.side)


def tile_grid(
    size: tuple[int, int], pinpoints: list[list[int]], tile: int, side: int, max_tiles: float
) -> TileGrid:
    """The grid of an image of `size` (height, width), in tiles of `tile` pixels and `side` cells.

    Args:
        pinpoints: resolutions (height, width) that the image may be fitted into.
        max_tiles: tiles' worth of cells beyond which the model interpolates (9 of `anyres_max_9`).
    """
    rows, columns = get_anyres_image_grid_shape(size, pinpoints, tile)
    numbers = torch.arange(rows * side * columns * side).view(1, rows * side, columns * side)
    inside = unpad_image(numbers, size)
    height, width = inside.shape[1:]
    top, left = divmod(int(inside[0, 0, 0]), columns * side) if inside.numel() else (0, 0)
    out_height, out_width = height, width
    ratio = math.sqrt(height * width / (max_tiles * side**2))
    if ratio > 1.1:
        out_height, out_width = max(1, int(height // ratio)), max(1, int(width // ratio))
    return TileGrid(rows, columns, side, height, width, top, left, out_height, out_width)


def square_padding(size: tuple[int, int], side: int) -> Tensor:
    """(side * side,) True for cells wholly inside the border that squares an image of `size`."""
    longest = max(size)

    def outside(extent: int) -> Tensor:
        before = (longest - extent) // 2
        cell = torch.arange(side)
        # cell k covers the pixels from k * longest / side to (k + 1) * longest / side
        return ((cell + 1) * longest <= before * side) | (cell * longest >= (before + extent) * side)

    return (outside(size[0])[:, None] | outside(size[1])[None, :]).flatten()


def rescaled(place: Tensor, cells: int, out: int) -> Tensor:
    """The cell of a grid of `out` rows (or columns) in which the centre of a finer one of `cells` lies."""
    return (2 * place + 1) * out // (2 * cells)


def coarser(rows: int, columns: int, out_rows: int, out_columns: int) -> Merge:
    """The cells of a grid, each to the cell of a coarser one in which its centre lies, as plain means.

    A model interpolates there: this says which pixels a pooled cell stands for. Its anchor is the cell
    in which its own centre lies.
    """
    row, column = (
        rescaled(torch.arange(rows), rows, out_rows),
        rescaled(torch.arange(columns), columns, out_columns),
    )
    slot = row[:, None] * out_columns + column
    row = rescaled(torch.arange(out_rows), out_rows, rows)
    column = rescaled(torch.arange(out_columns), out_columns, columns)
    return Merge.plain(slot.flatten()[None], (row[:, None] * columns + column).flatten()[None])


def tile_extents(
    size: tuple[int, int], pinpoints: list[list[int]], tile: int
) -> dict[tuple[int, int], Extent]:
    """What each tile shows of an image of `size` (height, width), by its row and column among the tiles."""
    target = select_best_resolution(size, pinpoints)
    blank = np.broadcast_to(np.uint8(0), (3, *size))  # only its shape is looked at
    height, width = get_patch_output_size(blank, target, input_data_format=ChannelDimension.FIRST)
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    return {
        (row, column): (
            (column * tile - left) / width,
            (row * tile - top) / height,
            tile / width,
            tile / height,
        )
        for row in range(target[0] // tile)
        for column in range(target[1] // tile)
    }


def square_extent(size: tuple[int, int]) -> Extent:
    """What the square around an image of `size` (height, width) shows of it."""
    (height, width), edge = size, max(size)
    left, top = (edge - width) // 2, (edge - height) // 2
    return -left / width, -top / height, edge / width, edge / height
