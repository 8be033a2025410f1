"""Patches that their neighbours predict, before there are tokens (PixelPrune, arXiv 2604.00886). On bytes.

A cell is a patch, or a group of patches that merge as one. It is predicted from the cell above where the one
on the left equals the one above that and differs from the one above, as where an edge goes down; else from
the left. In a video the same cell of the step before is one more that may predict it.
"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 1 << 18
LINES = 4


def entering(
    picture: np.ndarray, rows: int, columns: int, tau: float = 0, before: np.ndarray | None = None
) -> np.ndarray:
    """(rows, columns) True for cells that differ by more than `tau` from what predicts them.

    Args:
        picture: (T, H, W, C) uint8, T frames or colours of a step; what is beyond the last whole cell counts
            for nothing.
        tau: the largest absolute difference, of 255; 0: exactly equal.
        before: the step before, alike.
    """
    bands, cell = _bands(picture, rows, columns)
    earlier = None if before is None else _bands(before, rows, columns)[0]
    # True where a cell is as the one on its left, above it, of the step before; where the first two are alike
    left, above, again, level = np.zeros((4, rows, columns), dtype=bool)
    # some rows of cells at a time: what is compared stays in the processor's cache
    step = max(1, BLOCK_BYTES // bands[0].nbytes)
    for start in range(0, rows, step):
        stop, second = min(start + step, rows), max(start, 1)
        here, higher = bands[second:stop], bands[second - 1 : stop - 1]
        own = bands[start:stop]
        left[start:stop, 1:] = _alike(own[..., cell:], own[..., :-cell], columns - 1, tau)
        above[second:stop] = _alike(here, higher, columns, tau)
        if tau:
            level[second:stop, 1:] = _alike(here[..., :-cell], higher[..., cell:], columns - 1, tau)
        if earlier is not None:
            again[start:stop] = _alike(own, earlier[start:stop], columns, tau)
    if not tau:  # they are, where it equals both; where it equals one they are not; else it enters anyway
        level = left & above
    edge = np.zeros_like(left)  # goes down on its left
    edge[1:, 0] = True
    edge[1:, 1:] = above[1:, :-1] & ~level[1:, 1:]
    return ~(np.where(edge, above, left) | again)


def surprise(picture: np.ndarray, rows: int, columns: int, before: np.ndarray | None = None) -> np.ndarray:
    """(rows, columns) float32: the mean absolute difference of a cell from what is most like it, of 255.

    That is its left neighbour, the one above, or the same cell of the step before; 255 where there is none.
    Each fourth line of pixels is looked at, which ranks cells as all of them do. Pictures as for `entering`.
    """
    bands, cell = _bands(picture, rows, columns)
    bands = bands[:, ::LINES]
    least = np.full((rows, columns), 255, dtype=np.float32)
    least[:, 1:] = _mean_apart(bands[..., cell:], bands[..., :-cell], columns - 1)
    least[1:] = np.minimum(least[1:], _mean_apart(bands[1:], bands[:-1], columns))
    if before is not None:
        least = np.minimum(least, _mean_apart(bands, _bands(before, rows, columns)[0][:, ::LINES], columns))
    return least


def moved(picture: np.ndarray, before: np.ndarray, rows: int, columns: int) -> float:
    """The largest mean absolute difference that a cell has, of 255; pictures as for `entering`."""
    bands, others = (_bands(one, rows, columns)[0] for one in (picture, before))
    return float(_mean_apart(bands, others, columns).max())


def thumbnails(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(rows * columns, 6) float32: the mean colours of each cell's halves, about 0.

    They are its upper and its lower half, or its two frames where these are one step.
    """
    bands, _ = _bands(picture, rows, columns)
    half = bands.shape[1] // 2
    sums = bands[:, : 2 * half].reshape(rows, 2, half, -1).sum(2, dtype=np.uint32)
    means = sums.reshape(rows, 2, columns, -1, 3).mean(3, dtype=np.float32) / half
    return means.transpose(0, 2, 1, 3).reshape(rows * columns, -1) - 127.5


def _bands(picture: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, int]:
    """Its rows of cells (rows, T * h, W * C), without what follows the last whole one; bytes along a cell."""
    frames, height, width, colours = picture.shape
    height, width = height // rows, width // columns
    whole = picture[:, : height * rows, : width * columns].reshape(frames, rows, height, -1)
    return whole.swapaxes(0, 1).reshape(rows, frames * height, -1), width * colours


def _mean_apart(one: np.ndarray, other: np.ndarray, columns: int) -> np.ndarray:
    """(rows, columns) float32: mean absolute differences of cells; rows (rows, T * h, W * C)."""
    rows, lines, along = one.shape
    if not one.size:
        return np.zeros((rows, columns), dtype=np.float32)
    sums = [_apart(*pair).sum(0, dtype=np.uint32) for pair in zip(one, other, strict=True)]
    cells = np.reshape(sums, (rows, columns, -1)).sum(2, dtype=np.uint32)
    return cells.astype(np.float32) / np.float32(lines * along / columns)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences of bytes."""
    apart = np.maximum(one, other)
    apart -= np.minimum(one, other)
    return apart


def _alike(one: np.ndarray, other: np.ndarray, columns: int, tau: float) -> np.ndarray:
    """(rows, columns) True where no byte of a cell differs by more than `tau`; rows (rows, T * h, W * C)."""
    if not columns:
        return np.zeros((len(one), 0), dtype=bool)
    apart = _apart(one, other).max(1) if tau else np.bitwise_or.reduce(one ^ other, axis=1)
    return apart.reshape(len(one), columns, apart.shape[1] // columns).max(2) <= tau
