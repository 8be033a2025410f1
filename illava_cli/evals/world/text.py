"""Questions about small text: in an image of one tile, and in a large image whose tiles alone show it."""

from __future__ import annotations

import numpy as np

from illava_cli.evals.world.scene import EDGE, Scene, draw_scene, draw_text, pick
from illava_cli.evals.world.task import Question, Still, Task

LARGE = ((2 * EDGE, 2 * EDGE), (2 * EDGE, EDGE), (EDGE, 2 * EDGE))  # width, height


def draw_reading(rng: np.random.Generator) -> Still:
    return Still(draw_scene(rng, int(rng.integers(0, 4)), texts=(draw_text(rng),)))


def draw_large(
    rng: np.random.Generator,
    count: int,
    texts: tuple[str, ...],
    edges: tuple[int, int],
    lettering: float = 1.0,
) -> Scene:
    """A picture of several tiles: shapes grow with it, letters by `lettering`."""
    return draw_scene(rng, count, texts=texts, edges=edges, scale=min(edges) / EDGE, lettering=lettering)


def draw_tiles(rng: np.random.Generator) -> Still:
    return Still(draw_large(rng, int(rng.integers(0, 4)), (draw_text(rng),), pick(rng, LARGE)))


def ask_text(stage: Still, rng: np.random.Generator) -> Question | None:
    if len(stage.scene.signs) != 1:
        return None
    return "What does the sign say?", stage.scene.signs[0].text


TASKS = {"reading": Task(draw_reading, ask_text), "tiles": Task(draw_tiles, ask_text)}
