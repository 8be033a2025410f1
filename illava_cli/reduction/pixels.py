"""Patches that their neighbours predict, before there are tokens (PixelPrune, arXiv 2604.00886). On bytes.

A cell is a patch, or a group of patches that merge as one. It is predicted from the cell above where the one
on the left equals the one above that and differs from the one above, as where an edge goes down; else from
the left. In a video the same cell of the step before is one more that may predict it.
"""

from __future__ import annotations

import numpy as np


def entering(
    picture: np.ndarray, rows: int, columns: int, tau: float = 0, before: np.ndarray | None = None
) -> np.ndarray:
    """(rows, columns) True for cells that differ by more than `tau` from what predicts them.

    Args:
        picture: (T, H, W, 3) uint8, T frames that are one step; what is beyond the last whole cell counts for
            nothing.
        tau: the largest absolute difference, of 255; 0: exactly equal.
        before: the step before, alike.
    """
    bands, cell = _bands(picture, rows, columns)
    earlier = None if before is None else _bands(before, rows, columns)[0]
    enters = np.zeros((rows, columns), dtype=bool)
    # a row of cells at a time: what is compared stays in the processor's cache
    for row, band in enumerate(bands):
        error = np.full(columns, np.inf, dtype=np.float32)  # nothing predicts the first
        error[1:] = left = _furthest(band[:, cell:], band[:, :-cell], columns - 1)
        if row:
            higher = _furthest(band, bands[row - 1], columns)
            error[0] = higher[0]
            differs = _furthest(band[:, :-cell], bands[row - 1][:, cell:], columns - 1) > tau
            error[1:] = np.where((higher[:-1] <= tau) & differs, higher[1:], left)
        if earlier is not None:
            error = np.minimum(error, _furthest(band, earlier[row], columns))
        enters[row] = error > tau
    return enters


def moved(picture: np.ndarray, before: np.ndarray, rows: int, columns: int) -> float:
    """The largest mean absolute difference that a cell has, of 255; pictures as for `entering`."""
    pairs = zip(_bands(picture, rows, columns)[0], _bands(before, rows, columns)[0], strict=True)
    sums = [_apart(one, other).sum(0, dtype=np.uint32) for one, other in pairs]
    cells = np.stack(sums).reshape(rows, columns, -1).sum(2)
    lines = len(_bands(picture, rows, columns)[0][0])
    return float(cells.max()) / (lines * (sums[0].size // columns))


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
    """Its rows of cells (rows, T * h, W * 3), without what follows the last whole one; bytes along a cell."""
    frames, height, width, _ = picture.shape
    height, width = height // rows, width // columns
    whole = picture[:, : height * rows, : width * columns].reshape(frames, rows, height, -1)
    return whole.swapaxes(0, 1).reshape(rows, frames * height, -1), width * 3


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences of bytes."""
    apart = np.maximum(one, other)
    apart -= np.minimum(one, other)
    return apart


def _furthest(one: np.ndarray, other: np.ndarray, columns: int) -> np.ndarray:
    """(columns,) the largest absolute difference within each cell of a row."""
    if not columns:
        return np.zeros(0, dtype=np.uint8)
    return _apart(one, other).max(0).reshape(columns, -1).max(1)
