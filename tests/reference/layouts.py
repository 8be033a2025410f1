"""Both layouts of the LLaVA families: where a tile's survivors go in the decoder's input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import transformers.models.llava_onevision.modeling_llava_onevision as llava_onevision
from torch import Tensor, nn

from tests.reference.merging import weighted_sum
from tests.reference.tower import Cell
from tests.reference.values import Medium, Token

# shrunk(height, width, side, config): the size to which a family interpolates an unpadded grid
Shrunk = Callable[[int, int, int, object], tuple[int, int]]


def anyres_grid(medium: Medium, config) -> tuple[int, int, Tensor]:
    """Tile rows and columns, and the (R, C) cells (indices into the full grid) that HF's unpad leaves."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    pinpoints, tile = medium.pinpoints or config.image_grid_pinpoints, config.vision_config.image_size
    rows, cols = llava_onevision.get_anyres_image_grid_shape(medium.size, pinpoints, tile)
    index = torch.arange(rows * side * cols * side).view(1, rows * side, cols * side)
    return rows, cols, llava_onevision.unpad_image(index, medium.size)[0]


def padding_cells(medium: Medium, config) -> list[set[int]]:
    """Per tile, the cells known to be padding: none in base tiles and video frames."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    padding = [set() for _ in medium.pixel_values]
    if medium.kind == "anyres":
        _, cols, unpadded = anyres_grid(medium, config)
        inside = set(unpadded.flatten().tolist())
        for tile in range(1, len(padding)):
            top, left = (tile - 1) // cols * side, (tile - 1) % cols * side
            for cell in range(side * side):
                if (top + cell // side) * cols * side + left + cell % side not in inside:
                    padding[tile].add(cell)
    elif medium.kind == "square":
        longest = max(medium.size)
        for cell in range(side * side):
            for k, length in zip(divmod(cell, side), medium.size, strict=True):
                # Of `longest` pixels image: [before, before + length), cells k: [k, k + 1) * longest / side.
                before = (longest - length) // 2
                if (k + 1) * longest <= before * side or k * longest >= (before + length) * side:
                    padding[0].add(cell)
    return padding


def bilinear(grid: Tensor, height: int, width: int) -> Tensor:
    """(H, W, C) -> (height, width, C), as HF does it."""
    grid = nn.functional.interpolate(grid.permute(2, 0, 1)[None], size=(height, width), mode="bilinear")
    return grid[0].permute(1, 2, 0)


def rows_end(config) -> bool:
    """Whether each row of each frame of a video ends with a newline (LLaVA-Video), not the whole of it."""
    return getattr(config, "mm_newline_position", None) == "grid"


def grid_layout(
    medium: Medium, tiles: list[list[Cell]], newline: Tensor, config, shrunk: Shrunk
) -> list[Token]:
    """HF's pack_image_features and apply_pooling, with a tile's survivors in order as a g x g grid."""
    g = math.isqrt(len(tiles[0]))
    if g * g != len(tiles[0]):
        raise ValueError(f"{len(tiles[0])} survivors per tile are no square")
    grids = [torch.stack([cell.feature for cell in tile]).unflatten(0, (g, g)) for tile in tiles]
    out = []
    if medium.kind == "anyres":
        rows, cols, _ = anyres_grid(medium, config)
        strips = [torch.cat(grids[1 + row * cols : 1 + (row + 1) * cols], dim=1) for row in range(rows)]
        big = torch.cat(strips).permute(2, 0, 1)  # (C, rows*g, cols*g)
        big = llava_onevision.unpad_image(big, medium.size).permute(1, 2, 0)
        target = shrunk(big.shape[0], big.shape[1], g, config)
        if target != big.shape[:2]:
            big = bilinear(big, *target)
        out += [(x, "image") for x in grids[0].flatten(0, 1)]
        for row in big:
            out += [(x, "image") for x in row] + [(newline, "row")]
    else:
        half = math.ceil(g / 2)
        for grid in grids:
            grid = bilinear(grid, half, half) if medium.kind == "video" else grid
            for row in grid:
                out += [(x, "image") for x in row]
                if medium.kind == "video" and rows_end(config):
                    out.append((newline, "final"))
        if not (medium.kind == "video" and rows_end(config)):
            out.append((newline, "final"))
    return [Token(x, kind, place) for place, (x, kind) in enumerate(out)]


def join_nearest(cells: list[Cell], m: int) -> list[Cell]:
    """Of cells in raster order the m highest-scored stay; every other joins the nearest of them.

    Kept cells' features are plain means of themselves and those that joined. Ties: lower raster index first.
    """
    if m < 1:
        raise ValueError(f"{len(cells)} survivors leave no cell after pooling")
    kept = sorted(sorted(range(len(cells)), key=lambda i: (-cells[i].score, i))[:m])
    members = {k: [k] for k in kept}
    for i, cell in enumerate(cells):
        if i not in kept:
            _, nearest = min(((cells[k].y - cell.y) ** 2 + (cells[k].x - cell.x) ** 2, k) for k in kept)
            members[nearest].append(i)
    x = torch.stack([cell.feature for cell in cells])
    means = {k: weighted_sum(x, [(i, 1 / len(group)) for i in group]) for k, group in members.items()}
    return [replace(cells[k], feature=means[k]) for k in kept]


def coarse(k: int, before: int, after: int) -> int:
    """floor((k + 0.5) * after / before): the coarse row or column in which a fine one lies."""
    return (2 * k + 1) * after // (2 * before)


def faithful_layout(medium: Medium, tiles: list[list[Cell]], newline: Tensor, config, shrunk: Shrunk):
    """Survivors keep their own row and column, in the order of their places (one place: raster order).

    Returns the tokens and the unmerged length.
    """
    side = config.vision_config.image_size // config.vision_config.patch_size
    full = side * side
    if medium.kind == "video":
        half, tokens = math.ceil(side / 2), []
        width = half + rows_end(config)
        for frame, cells in enumerate(tiles):
            for cell in join_nearest(cells, round(half * half * len(cells) / full)):
                row, col = coarse(cell.y, side, half), coarse(cell.x, side, half)
                tokens.append(Token(cell.feature, "image", (frame * half + row) * width + col))
        if rows_end(config):
            tokens += [Token(newline, "final", row * width + half) for row in range(len(tiles) * half)]
        tokens.sort(key=lambda token: token.place)
        end = len(tiles) * half * width
        if rows_end(config):
            return tokens, end
        return [*tokens, Token(newline, "final", end)], end + 1

    tokens = [Token(cell.feature, "image", cell.y * side + cell.x) for cell in tiles[0]]
    if medium.kind == "square":
        return [*tokens, Token(newline, "final", full)], full + 1

    _, tile_cols, unpadded = anyres_grid(medium, config)
    height, width = unpadded.shape
    top, left = divmod(int(unpadded[0, 0]), tile_cols * side)
    cells = [
        replace(cell, y=tile // tile_cols * side + cell.y - top, x=tile % tile_cols * side + cell.x - left)
        for tile, survivors in enumerate(tiles[1:])
        for cell in survivors
    ]
    cells = sorted((c for c in cells if 0 <= c.y < height and 0 <= c.x < width), key=lambda c: (c.y, c.x))
    rows, cols = shrunk(height, width, side, config)
    if (rows, cols) != (height, width):
        cells = join_nearest(cells, round(rows * cols * len(cells) / (height * width)))
    for row in range(rows):
        start = full + row * (cols + 1)
        here = [cell for cell in cells if coarse(cell.y, height, rows) == row]
        here.sort(key=lambda cell: coarse(cell.x, width, cols))
        tokens += [Token(cell.feature, "image", start + coarse(cell.x, width, cols)) for cell in here]
        tokens.append(Token(newline, "row", start + cols))
    return tokens, full + rows * (cols + 1)
