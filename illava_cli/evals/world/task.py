"""What a task of the world is: how its pictures are drawn, and how a question about them is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from illava_cli.evals.world.render import draw
from illava_cli.evals.world.scene import Scene
from illava_cli.evals.world.sheet import Sheet, print_sheet

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Still:
    """One image."""

    scene: Scene | Sheet


@dataclass(frozen=True)
class Album:
    """Several images, each seen as one square."""

    scenes: tuple[Scene, ...]


@dataclass(frozen=True)
class Clip:
    """The frames of a video; `paths` says for each thing how it behaves."""

    frames: tuple[Scene, ...]
    paths: tuple = ()


Stage = Still | Album | Clip
Question = tuple[str, str]  # prompt and right answer


@dataclass(frozen=True)
class Task:
    """One kind of question.

    Args:
        draw: a stage on which it may be asked.
        ask: a question about a stage, or None where none is unambiguous. Answers are balanced over stages.
        choices: all answers there are; None where they are too many to list.
    """

    draw: Callable[[np.random.Generator], Stage]
    ask: Callable[[Stage, np.random.Generator], Question | None]
    choices: tuple[str, ...] | None = None


def picture(scene: Scene | Sheet) -> Image.Image:
    """What is seen of it, a pixel for each of its own."""
    return print_sheet(scene) if isinstance(scene, Sheet) else draw(scene)


def media(stage: Stage) -> dict[str, tuple]:
    """The stage drawn: `images` and `videos` as `EvalSample` takes them."""
    match stage:
        case Still(scene):
            return {"images": (picture(scene),)}
        case Album(scenes):
            return {"images": tuple(draw(scene) for scene in scenes)}
        case Clip(frames):
            return {"videos": (tuple(draw(scene) for scene in frames),)}
