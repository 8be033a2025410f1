"""Pictures with dense labels, from which the tower learns; easy ones first.

Without the easy ones it is long before shapes are told apart: large shapes on plain ground come first, then
all, with letters that shrink to their size.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from illava_cli.evals.world.documents import TASKS as DOCUMENTS
from illava_cli.evals.world.scene import Scene, draw_scene, draw_text, pick
from illava_cli.evals.world.sheet import Sheet
from illava_cli.evals.world.styles import TRAINED, restyle
from illava_cli.evals.world.task import Still, picture
from illava_cli.evals.world.text import LARGE, draw_large
from tiny.labels import PATCH, TILE, crop, stage_labels
from tiny.notes import lay_print

BATCH = 16
LARGE_SHARE = 0.2  # of the pictures, those that are a tile of a large one
PRINTED_SHARE = 0.3  # those that are a tile of a document
SMALL_SHARE = 0.6  # of the pictures to read, those in small print
EASY, LETTERED = 0.12, 0.4  # shares of the stage at which the easy pictures and the large letters end


def easy_scene(rng: np.random.Generator) -> Scene:
    scene = draw_scene(rng, int(rng.integers(3, 6)), scale=1.2)
    return replace(scene, background=replace(scene.background, texture="plain"))


Lesson = tuple[
    Image.Image, dict[str, np.ndarray]
]  # a square picture, labels (rows, columns, ...) of its patches


def lesson(rng: np.random.Generator, done: float) -> list[Lesson]:
    """Those of a step, at that share of the stage."""
    return [_picture(rng, done) for _ in range(BATCH)]


def reading(rng: np.random.Generator) -> list[Lesson]:
    """Those of a step that teaches to read: small print, and signs in scenes."""
    shown = [lay_print(rng) if rng.random() < SMALL_SHARE else _signs(rng) for _ in range(BATCH)]
    return [(picture(one), stage_labels(one, PATCH)) for one in shown]


def _signs(rng: np.random.Generator) -> Scene:
    texts = tuple(draw_text(rng) for _ in range(3))
    return _styled(rng, draw_scene(rng, int(rng.integers(0, 2)), texts=texts))


def _picture(rng: np.random.Generator, done: float) -> Lesson:
    if done < EASY:
        scene = easy_scene(rng)
        return picture(scene), stage_labels(scene, PATCH)
    if rng.random() < PRINTED_SHARE:
        return _tile(rng, pick(rng, list(DOCUMENTS.values())).draw(rng).scene)
    # crowded, so that most patches teach something
    lettering = 1 + max(0.0, 0.7 * (LETTERED - done) / (LETTERED - EASY))
    texts = tuple(draw_text(rng) for _ in range(int(rng.integers(0, 3 if lettering > 1.2 else 4))))
    count = int(rng.integers(0, max(1, int(8 - 2 * len(texts) * lettering))))
    if rng.random() < LARGE_SHARE:
        return _tile(rng, _styled(rng, draw_large(rng, count, texts * 2, pick(rng, LARGE))))
    scene = _styled(rng, draw_scene(rng, count, texts=texts, lettering=lettering))
    return picture(scene), stage_labels(scene, PATCH)


def _styled(rng: np.random.Generator, scene: Scene) -> Scene:
    return restyle(Still(scene), pick(rng, TRAINED), rng).scene


def _tile(rng: np.random.Generator, scene: Scene | Sheet) -> Lesson:
    """One tile of a picture of several."""
    rows, columns = scene.height // TILE, scene.width // TILE
    row, column = divmod(int(rng.integers(rows * columns)), columns)
    left, top, side = column * TILE, row * TILE, TILE // PATCH
    tile = picture(scene).crop((left, top, left + TILE, top + TILE))
    return tile, crop(stage_labels(scene, PATCH), row * side, column * side, side, side)
