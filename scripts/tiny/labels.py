"""What lies under each patch of a tile: dense labels that teach the tower within minutes.

The linear heads that read them are thrown away after training.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from illava_cli.evals.world.glyphs import GLYPHS
from illava_cli.evals.world.pages import DAYS
from illava_cli.evals.world.render import coverage
from illava_cli.evals.world.scene import COLOURS, SHAPES, SIZES, WORDS, Scene, Sign
from illava_cli.evals.world.sheet import Sheet, Text, font
from illava_cli.trace import View

TILE, PATCH = 96, 8  # pixels along a square picture and along a patch
IGNORED = -100
LEAST = 0.12  # share of a patch that must be covered
CHARACTERS = "".join(dict.fromkeys([*GLYPHS, *"".join(DAYS)]))
PRINTED = (*WORDS, *DAYS)
CLASSES = {
    "colour": len(COLOURS) + 1,
    "shape": len(SHAPES) + 1,
    "size": len(SIZES) + 1,
    "character": len(CHARACTERS) + 1,
    "word": len(PRINTED) + 1,
    "tens": 11,
    "ones": 11,
    "count": 6,
}
QUIET = 0.05  # weight of a patch with nothing under it


def stage_labels(scene: Scene | Sheet, cell: int) -> dict[str, np.ndarray]:
    """`dense_labels` of whatever a picture shows."""
    return sheet_labels(scene, cell) if isinstance(scene, Sheet) else dense_labels(scene, cell)


def dense_labels(scene: Scene, cell: int) -> dict[str, np.ndarray]:
    """For each patch of `cell` pixels: classes (rows, columns), 0 for none; `centre` (rows, columns, 2)."""
    shape = (scene.height // cell, scene.width // cell)
    labels = {name: np.zeros(shape, dtype=np.int64) for name in CLASSES}
    labels["count"][:] = len(scene.things) if len(scene.things) < CLASSES["count"] else IGNORED
    labels["centre"] = np.full((*shape, 2), np.nan, dtype=np.float32)
    if scene.things:
        shares = coverage(scene, cell)
        best, covered = shares.argmax(0), shares.max(0) >= LEAST
        for index, thing in enumerate(scene.things):
            under = covered & (best == index)
            labels["colour"][under] = 1 + list(COLOURS).index(thing.colour)
            labels["shape"][under] = 1 + SHAPES.index(thing.shape)
            labels["size"][under] = 1 + list(SIZES).index(thing.size)
            labels["centre"][under] = (thing.x / scene.width, thing.y / scene.height)
    for sign in scene.signs:
        _label_sign(labels, sign, cell)
    return labels


def sheet_labels(sheet: Sheet, cell: int) -> dict[str, np.ndarray]:
    """As `dense_labels`, of a document: its words, its numbers of two digits, and all letters and digits."""
    shape = (sheet.height // cell, sheet.width // cell)
    labels = {name: np.zeros(shape, dtype=np.int64) for name in CLASSES}
    labels["count"][:] = IGNORED
    labels["centre"] = np.full((*shape, 2), np.nan, dtype=np.float32)
    for text in sheet.texts:
        for index, part in enumerate(parts := text.words.split("  ")):
            _label_print(labels, text, "  ".join([*parts[:index], ""]), part, cell)
    return labels


def _label_print(labels: dict[str, np.ndarray], text: Text, before: str, part: str, cell: int) -> None:
    left, top, _, bottom = text.box
    start = left + font(text.size).getlength(before)
    ends = [start + font(text.size).getlength(part[:count]) for count in range(len(part) + 1)]
    plate = _overlap(start, top, ends[-1] - start, bottom - top, labels["word"].shape, cell)
    if part in PRINTED or (len(part) == 2 and part.isdigit()):
        _label_text(labels, part, plate >= 0.3 * cell**2)
    else:
        for name in ("word", "tens", "ones"):
            labels[name][plate > 0] = IGNORED
    if part in PRINTED or part.isdigit():
        boxes = [(x, top, end - x, bottom - top) for x, end in pairwise(ends)]
        _label_characters(labels, part, boxes, cell)
    else:  # a heading: nothing to learn
        labels["character"][plate > 0] = IGNORED


def _label_sign(labels: dict[str, np.ndarray], sign: Sign, cell: int) -> None:
    plate = _overlap(sign.x, sign.y, sign.width, sign.height, labels["word"].shape, cell)
    _label_text(labels, sign.text, plate >= 0.3 * cell**2)
    dot, count = sign.dot, len(sign.text)
    boxes = [(sign.x + (2 + 6 * i) * dot, sign.y + 2 * dot, 5 * dot, 7 * dot) for i in range(count)]
    _label_characters(labels, sign.text, boxes, cell)


def _label_text(labels: dict[str, np.ndarray], text: str, under: np.ndarray) -> None:
    if text.isdigit():
        labels["tens"][under], labels["ones"][under] = 1 + int(text[0]), 1 + int(text[1])
    else:
        labels["word"][under] = 1 + PRINTED.index(text)


def _label_characters(
    labels: dict[str, np.ndarray], text: str, boxes: list[tuple[float, float, float, float]], cell: int
) -> None:
    """`boxes`: left, top, width and height of each."""
    areas = [_overlap(*box, labels["word"].shape, cell) for box in boxes]
    best, area = np.argmax(areas, 0), np.max(areas, 0)
    inked = area >= 0.25 * cell**2
    numbers = np.array([1 + CHARACTERS.index(c) for c in text])
    labels["character"][inked] = numbers[best][inked]


def _overlap(
    x: float, y: float, width: float, height: float, shape: tuple[int, int], cell: int
) -> np.ndarray:
    """(rows, columns) pixels of each patch inside a box."""
    rows, columns = (np.arange(n) * cell for n in shape)
    down = np.clip(np.minimum(rows + cell, y + height) - np.maximum(rows, y), 0, None)
    right = np.clip(np.minimum(columns + cell, x + width) - np.maximum(columns, x), 0, None)
    return down[:, None] * right[None]


def seen_labels(labels: dict[str, np.ndarray], view: View, cells: int) -> dict[str, np.ndarray]:
    """Of a picture's labels those of a segment that shows it in its own size, (rows, columns, ...).

    A picture that is shrunk into a segment teaches nothing.

    Args:
        cells: along a token.
    """
    (height, width), (left, top, across, down) = labels["word"].shape, view.extent
    shape = view.rows * cells, view.columns * cells
    if shape != (round(height * down), round(width * across)):
        return nothing_known(shape)
    return crop(labels, round(height * top), round(width * left), *shape)


def crop(
    labels: dict[str, np.ndarray], row: int, column: int, rows: int, columns: int
) -> dict[str, np.ndarray]:
    """The labels of a part of a picture; what needs the whole picture is left out."""
    if labels["word"].shape == (rows, columns):
        return labels
    part = np.s_[row : row + rows, column : column + columns]
    cut = {name: values[part].copy() for name, values in labels.items()}
    cut["count"][:] = IGNORED
    cut["centre"][:] = np.nan
    return cut


def nothing_known(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Labels of a picture of which nothing is to be learnt."""
    labels = {name: np.full(shape, IGNORED) for name in CLASSES}
    return labels | {"centre": np.full((*shape, 2), np.nan, dtype=np.float32)}


class Heads(nn.Module):
    """Linear readers of the tower's features."""

    def __init__(self, width: int):
        super().__init__()
        self.classes = nn.ModuleDict({name: nn.Linear(width, count) for name, count in CLASSES.items()})
        self.centre = nn.Linear(width, 2)

    def forward(self, features: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss of (B, N, C) features, and the share of right answers where something is to be seen."""
        loss, right = features.new_zeros((), dtype=torch.float32), {}
        for name, head in self.classes.items():
            logits, target = head(features).flatten(0, 1).float(), labels[name].flatten()
            weight = torch.where(target == 0, QUIET, 1.0) * (target != IGNORED)
            each = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED)
            loss = loss + (each * weight).sum() / weight.sum().clamp(min=1)
            seen = target > 0
            right[name] = (logits[seen].argmax(-1) == target[seen]).float().mean().item()
        known = ~labels["centre"][..., 0].isnan()
        if known.any():
            miss = (self.centre(features)[known].float() - labels["centre"][known]).abs()
            loss = loss + 4 * miss.mean()
            right["centre"] = (miss.amax(-1) < 0.06).float().mean().item()
        return loss, right
