"""Patches that their neighbours predict, before there are tokens (PixelPrune, arXiv 2604.00886). On bytes.

A cell is a patch, or a group of patches that merge as one. It is predicted from the cell above where the one
on the left equals the one above that and differs from the one above, as where an edge goes down; else from
the left. In a video the same cell of the step before is one more that may predict it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_BYTES = 1 << 18
LINES = 4  # each so many-th line of a cell tells most of what all do
ALONE = 1 / 4  # of the cells, up to which they are taken out and compared alone


@dataclass(frozen=True)
class Cells:
    """A step in cells: one frame, two that a tower takes together, or the three colours of a tile.

    Args:
        frames: T times (rows, h, columns, w * C) uint8, each cell's lines of pixels one below the other.
    """

    frames: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, picture: Sequence[np.ndarray], rows: int, columns: int) -> Cells:
        """Of T frames (H, W, C) uint8, without what follows the last whole cell.

        Nothing is copied where they lie in memory row by row.
        """
        height, width, colours = picture[0].shape
        height, width = height // rows, width // columns
        shape = rows, height, columns, width * colours
        return cls(tuple(one[: height * rows, : width * columns].reshape(shape) for one in picture))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.frames[0].shape[0], self.frames[0].shape[2]

    def __getitem__(self, part: slice | tuple[slice, ...]) -> Cells:
        """Some rows, lines or columns of each frame."""
        return Cells(tuple(frame[part] for frame in self.frames))


def entering(cells: Cells, tau: float = 0, before: Cells | None = None) -> np.ndarray:
    """(rows, columns) True for cells that differ by more than `tau` from what predicts them.

    Args:
        tau: the largest absolute difference, of 255; 0: exactly equal.
        before: the step before.
    """
    left, above = np.ones((2, *cells.shape), dtype=bool)  # as the cell there
    left[:, 0] = above[0] = False
    _compare(left[:, 1:], cells[:, :, 1:], cells[:, :, :-1], tau)
    _compare(above[1:], cells[1:], cells[:-1], tau)
    edge = np.zeros_like(left)  # goes down on its left
    edge[1:, 0] = True
    edge[1:, 1:] = above[1:, :-1]
    if tau:  # what exactly equals one of two that are equal equals both
        level = (edge & (left ^ above))[1:, 1:]  # elsewhere it decides nothing
        _compare(level, cells[1:, :, :-1], cells[:-1, :, 1:], tau)
        edge[1:, 1:] &= ~level
    enters = ~np.where(edge, above, left)
    if before is None:
        return enters
    again = enters.copy()
    _compare(again, cells, before, tau)
    return enters & ~again


def surprise(cells: Cells, before: Cells | None = None) -> np.ndarray:
    """(rows, columns) float32: the mean absolute difference of a cell from what is most like it, of 255.

    That is its left neighbour, the one above, or the same cell of the step before; 255 where there is none.
    Each fourth line of a cell is looked at, which ranks cells as all of them do.
    """
    some = cells[:, ::LINES]
    least = np.full(cells.shape, 255, dtype=np.float32)
    least[:, 1:] = _mean_apart(some[:, :, 1:], some[:, :, :-1])
    least[1:] = np.minimum(least[1:], _mean_apart(some[1:], some[:-1]))
    return least if before is None else np.minimum(least, _mean_apart(some, before[:, ::LINES]))


def moved(cells: Cells, before: Cells, enough: float = math.inf) -> float:
    """The largest mean absolute difference of a cell, of 255; or the first found that is above `enough`."""
    most = 0.0
    for row in range(cells.shape[0]):
        own, other = cells[row : row + 1], before[row : row + 1]
        most = max(most, float(_mean_apart(own, other).max()))
        if most > enough:
            break
    return most


def thumbnails(cells: Cells) -> np.ndarray:
    """(rows * columns, 6) float32: the mean colours of each cell's halves, about 0.

    They are its upper and its lower half, or its two frames where these are one step. Colours are three.
    """
    halves = cells.frames
    if len(halves) == 1:
        half = halves[0].shape[1] // 2
        halves = halves[0][:, :half], halves[0][:, half : 2 * half]
    rows, columns = cells.shape
    means = []
    for part in halves:
        sums = part.sum(1, dtype=np.uint32)  # (rows, columns, w * C)
        means.append(sums.reshape(rows, columns, -1, 3).mean(2, dtype=np.float32) / part.shape[1])
    return np.concatenate(means, axis=-1).reshape(rows * columns, -1) - 127.5


def _mean_apart(one: Cells, other: Cells) -> np.ndarray:
    """(rows, columns) float32: mean absolute differences of cells, their frames together."""
    rows, lines, columns, along = one.frames[0].shape
    sums = np.zeros((rows, columns), dtype=np.uint32)
    narrow = np.uint16 if 255 * lines < 1 << 16 else np.uint32
    for own, others in zip(one.frames, other.frames, strict=True):
        for start, stop in _blocks(own):
            apart = _apart(own[start:stop], others[start:stop])
            sums[start:stop] += apart.sum(1, dtype=narrow).sum(2, dtype=np.uint32)
    return sums.astype(np.float32) / np.float32(max(1, lines * along) * len(one.frames))


def _blocks(frame: np.ndarray) -> Iterator[tuple[int, int]]:
    """Some rows of cells at a time: what is compared stays in the processor's cache."""
    rows = frame.shape[0]
    step = max(1, BLOCK_BYTES * rows // max(1, frame.nbytes))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences of bytes."""
    apart = np.maximum(one, other)
    apart -= np.minimum(one, other)
    return apart


def _compare(alike: np.ndarray, one: Cells, other: Cells, tau: float) -> None:
    """Clears `alike` (rows, columns) where a cell differs by more than `tau`."""
    for own, others in zip(one.frames, other.frames, strict=True):
        for start, stop in _blocks(own):
            part, pair = alike[start:stop], (own[start:stop], others[start:stop])
            if not tau:
                part &= ~np.bitwise_or.reduce(np.bitwise_xor(*pair), axis=1).any(2)
                continue
            # what differs mostly does so in some lines; where little is left, that alone is compared: of a
            # clip that moves it takes three quarters of the time that comparing all does
            for every in (LINES, 1):
                rest = np.nonzero(part)
                if len(rest[0]) > ALONE * part.size:
                    part &= _apart(*(lines[:, ::every] for lines in pair)).max(1).max(2) <= tau
                elif len(rest[0]):
                    some = (lines[rest[0], ::every, rest[1]] for lines in pair)
                    part[rest] = _apart(*some).max((1, 2)) <= tau
