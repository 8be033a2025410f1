"""Other hands that draw the same scenes: so that what holds in one drawing need not hold in it alone.

`TRAINED` are those that the embedded model sees while it learns; `chalk` is held out whole: another palette
on dark boards, rough edges, sizes of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from illava_cli.evals.world.scene import Background, Scene, Thing, pick
from illava_cli.evals.world.task import Album, Clip, Stage, Still, Task

TRAINED = ("flat", "outlined", "shaded")
HELD_OUT = "chalk"
OTHERS = (*TRAINED[1:], HELD_OUT)  # than the world's own
CHALK = {
    "red": (232, 96, 92),
    "green": (112, 196, 116),
    "blue": (104, 140, 240),
    "yellow": (244, 232, 132),
    "purple": (182, 112, 214),
    "orange": (246, 168, 84),
}
BOARDS = ((34, 58, 48), (30, 32, 36), (52, 58, 66), (46, 36, 32))
CHALK_SIZES = (0.8, 1.0)  # of a shape's radius in the world itself: none grows into another


def restyle(stage: Stage, style: str, rng: np.random.Generator) -> Stage:
    """The same stage drawn by another hand."""
    change = _chalk(rng) if style == HELD_OUT else lambda scene: replace(scene, style=style)
    match stage:
        case Still(scene):
            return Still(change(scene))
        case Album(scenes):
            return Album(tuple(change(scene) for scene in scenes))
        case Clip(frames):
            return replace(stage, frames=tuple(change(frame) for frame in frames))


def _chalk(rng: np.random.Generator):
    board, scale = pick(rng, BOARDS), float(rng.uniform(*CHALK_SIZES))

    def change(scene: Scene) -> Scene:
        background = Background("plain", board, board, scene.background.seed)
        things = tuple(_in_chalk(thing, scale) for thing in scene.things)
        return replace(scene, things=things, background=background, style=HELD_OUT)

    return change


def _in_chalk(thing: Thing, scale: float) -> Thing:
    return replace(thing, paint=CHALK[thing.colour], radius=thing.radius * scale)


def drawn_by(style: str, task: Task) -> Task:
    """The same questions about scenes drawn by another hand."""

    def drawn(rng: np.random.Generator) -> Stage:
        return restyle(task.draw(rng), style, rng)

    return Task(drawn, task.ask, task.choices)
