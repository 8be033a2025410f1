"""Geometry of tiled images: which cells the model unpads, pools and ends with a newline.

Everything here is known on the host from the image's size. Cropping is `transformers`' own
`unpad_image`, run on the cells' numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.llava_onevision.modeling_llava_onevision import (
    get_anyres_image_grid_shape,
    unpad_image,
)


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
        out_height, out_width = int(height // ratio), int(width // ratio)
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
