"""Questions about several images: which of them has something."""

from __future__ import annotations

import numpy as np

from illava_cli.evals.world.scene import COLOURS, SHAPES, Scene, draw_scene, other_names, pick
from illava_cli.evals.world.task import Album, Question, Task

ORDINALS = ("first", "second", "third")


def draw_album(rng: np.random.Generator) -> Album:
    """Three images of one or two shapes each."""
    return Album(tuple(draw_scene(rng, int(rng.integers(1, 3))) for _ in ORDINALS))


def draw_which(rng: np.random.Generator) -> Album:
    """An album in which one image alone has a shape whose colour or form another image shares."""
    target = other_names(rng, 1)[0]
    place = int(rng.integers(len(ORDINALS)))
    scenes: list[Scene] = []
    for index in range(len(ORDINALS)):
        like = [(target[0], s) for s in SHAPES if s != target[1]] + [
            (c, target[1]) for c in COLOURS if c != target[0]
        ]
        first = target if index == place else pick(rng, like)
        names = [first, *other_names(rng, int(rng.integers(2)), (first, target))]
        scenes.append(draw_scene(rng, len(names), names=names))
    return Album(tuple(scenes))


def ask_which(stage: Album, rng: np.random.Generator) -> Question | None:
    places: dict[str, list[int]] = {}
    for index, scene in enumerate(stage.scenes):
        for thing in scene.things:
            places.setdefault(thing.name, []).append(index)
    index = int(rng.integers(len(stage.scenes)))  # the answer is drawn first, so that none is likelier
    names = [name for name, where in places.items() if where == [index]]
    if not names:
        return None
    return f"Which image has the {pick(rng, names)}?", ORDINALS[index]


TASKS = {"multi-image": Task(draw_which, ask_which, ORDINALS)}
