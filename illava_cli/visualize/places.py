"""Where each cell of a tower lies in its picture.

A cell is what merges as one: a patch, or a group of patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from illava_cli.trace import Trace, View


@dataclass(frozen=True)
class Places:
    """All P cells of an answer: media in their order, views in theirs, each in raster order.

    Args:
        medium: (P,).
        view: (P,) index among the medium's views.
        box: (P, 4) left, top, width and height in shares of what the view shows.
        padding: (P,) True where the image was padded.
    """

    medium: np.ndarray
    view: np.ndarray
    box: np.ndarray
    padding: np.ndarray

    def __len__(self) -> int:
        return len(self.medium)


def places(trace: Trace) -> Places:
    """The places of a traced answer's cells."""
    parts = []
    for medium, (views, padding) in enumerate(zip(trace["views"], trace["padding"], strict=True)):
        outside = None if padding is None else padding.cpu().numpy()
        for index, view in enumerate(views):
            cells = view.rows * view.columns
            own = np.zeros(cells, bool) if outside is None else outside[index]
            parts.append((np.full(cells, medium), np.full(cells, index), cell_boxes(view), own))
    if not parts:
        return Places(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, bool))
    return Places(*map(np.concatenate, zip(*parts, strict=True)))


def cell_boxes(view: View) -> np.ndarray:
    """(rows * columns, 4) boxes of a view's cells in shares of what it shows."""
    width, height = view.covered / view.columns, view.covered / view.rows
    row, column = np.divmod(np.arange(view.rows * view.columns), view.columns)
    size = np.broadcast_to([width, height], (len(row), 2))
    return np.column_stack([column * width, row * height, size])


def in_picture(view: View, boxes: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    """Boxes (n, 4) in shares of a view as shares of the whole picture, beyond which padding lies."""
    left, top, width, height = view.extent
    return np.asarray(boxes) * [width, height, width, height] + [left, top, 0, 0]
