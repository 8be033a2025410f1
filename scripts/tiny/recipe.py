"""What the model sees while it learns: kinds of examples, their turns, and the mix of each stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from illava_cli.evals.world import TASKS, documents, motion, several, stream, text
from illava_cli.evals.world.scene import draw_scene, draw_text, pick
from illava_cli.evals.world.styles import TRAINED, restyle
from illava_cli.evals.world.task import Question, Stage, Still
from tiny.batches import Example
from tiny.notes import draw_note

Draw = Callable[[np.random.Generator, int], Stage]  # with the most shapes that there may be

STILL_TASKS = {
    "colour": 1.0,
    "shape": 1.0,
    "count": 0.7,
    "existence": 1.4,
    "position": 2.0,
    "relation": 4.0,
    "what-is-at": 1.8,
}
EDGES = (text.LARGE[0], text.LARGE[0], *text.LARGE)  # both edges twice as long: shapes are, too
LARGE_TASKS = STILL_TASKS | {"tiles": 2.5, "count": 8.0}
CLIP_TASKS = {"video-direction": 1.0, "video-first": 0.6, "video-blinks": 2.0}
PAGE_TASKS = {
    "document-line": 0.7,
    "document-cell": 2.0,
    "document-bar": 1.3,
    "document-tallest": 0.5,
    "document-field": 1.5,
    "document-button": 1.2,
}
EVEN = 0.6  # share of the clips of eight frames whose frames are even, as the world's are
LEAST_MOMENTS, MOST_MOMENTS = 6, 12
SIGNED = 0.35  # share of pictures with a sign


@dataclass(frozen=True)
class Kind:
    """Examples of one shape of media.

    Args:
        size: examples in a batch, so that batches of all kinds cost about the same.
        turns: questions asked about each.
        tasks: task to weight.
    """

    draw: Callable[[np.random.Generator, int, object], Stage]
    size: int
    turns: int
    tasks: dict[str, float]
    square: bool = False
    common: Callable[[np.random.Generator], object] = lambda rng: None  # what a whole batch shares
    drawn: bool = True  # by one of several hands


def _still(rng: np.random.Generator, most: int, shared: object) -> Stage:
    signed = rng.random() < SIGNED
    count = int(rng.integers(1, most + 1))
    return Still(
        draw_scene(rng, min(count, 3) if signed else count, texts=(draw_text(rng),) if signed else ())
    )


def _read(rng: np.random.Generator, most: int, shared: object) -> Stage:
    return text.draw_reading(rng)


def _large(rng: np.random.Generator, most: int, edges: object) -> Stage:
    signed = rng.random() < 0.6
    count = int(rng.integers(0 if signed else 1, min(most, 3) + 1 if signed else most + 1))
    lettering = pick(rng, (1.0, 1.0, 2.0))  # a small picture enlarged has letters that are, too
    texts = (draw_text(rng),) if signed else ()
    return Still(text.draw_large(rng, count, texts, edges, lettering))


def _album(rng: np.random.Generator, most: int, shared: object) -> Stage:
    return several.draw_which(rng) if rng.integers(2) else several.draw_album(rng)


CASTS = (
    ("moves",),
    ("moves", "still"),
    ("blinks",),
    ("blinks", "still"),
    ("appears", "appears"),
    ("appears", "appears"),
    ("moves", "blinks"),
    ("moves", "moves"),
    ("blinks", "blinks"),
)


def _page(rng: np.random.Generator, most: int, shared: object) -> Stage:
    names, weights = list(PAGE_TASKS), np.array(list(PAGE_TASKS.values()))
    return documents.TASKS[rng.choice(names, p=weights / weights.sum())].draw(rng)


def _note(rng: np.random.Generator, most: int, shared: object) -> Stage:
    return Still(draw_note(rng))


def _clip(rng: np.random.Generator, most: int, frames: object) -> Stage:
    if frames == motion.FRAMES and rng.random() < EVEN:
        return motion.draw_clip(rng, pick(rng, CASTS))
    moments = int(rng.integers(LEAST_MOMENTS, min(frames, MOST_MOMENTS) + 1))
    return motion.draw_clip(rng, pick(rng, CASTS), moments, motion.draw_times(rng, moments, frames))


KINDS = {
    "square": Kind(_still, 10, 14, STILL_TASKS | {"reading": 2.0}, square=True),
    "tile": Kind(_still, 7, 14, STILL_TASKS | {"reading": 2.0}),
    "read": Kind(_read, 12, 1, {"reading": 1.0}, square=True),
    "large": Kind(_large, 3, 10, LARGE_TASKS, common=lambda rng: pick(rng, EDGES)),
    "album": Kind(_album, 5, 5, {"multi-image": 1.0}),
    "clip": Kind(_clip, 6, 4, CLIP_TASKS, common=lambda rng: pick(rng, (6, 8, 8, 8, 12, 16))),
    "note": Kind(_note, 12, 20, PAGE_TASKS, square=True, drawn=False),
    "page": Kind(_page, 3, 30, PAGE_TASKS, drawn=False),
}
HANDS = ("flat", *TRAINED)
STAGES = {  # kind to share of the steps
    "decoder": {"square": 0.32, "tile": 0.08, "album": 0.15, "clip": 0.15, "note": 0.2, "page": 0.1},
    "joint": {
        "square": 0.07,
        "tile": 0.04,
        "album": 0.03,
        "clip": 0.12,
        "large": 0.4,
        "note": 0.14,
        "page": 0.2,
    },
}


def batch(kind_name: str, seed: int, step: int, most: int) -> list[Example]:
    """The examples of one step: the same for the same seed and step."""
    kind = KINDS[kind_name]
    rng = stream(f"training/{seed}/{kind_name}", step, "train")
    shared = kind.common(rng)
    examples = []
    while len(examples) < kind.size:
        stage = kind.draw(rng, most, shared)
        if kind.drawn:
            stage = restyle(stage, pick(rng, HANDS), rng)
        turns = ask(stage, kind, rng)
        if turns:
            examples.append(Example(stage, turns, kind.square))
    return examples


def ask(stage: Stage, kind: Kind, rng: np.random.Generator) -> list[Question]:
    """Different questions about a stage, as many as `kind.turns` draws give."""
    names, weights = list(kind.tasks), np.array(list(kind.tasks.values()))
    drawn = rng.choice(names, kind.turns, p=weights / weights.sum())
    asked = [TASKS[name].ask(stage, rng) for name in drawn]
    return list(dict.fromkeys(question for question in asked if question is not None))


def checks(task: str, count: int, split: str = "validation") -> list[Example]:
    """Single questions of one task, laid out as `illava` lays them out: grouped by `shape_key`."""
    examples = []
    for seed in range(count):
        rng = stream(task, seed, split)
        question = None
        while question is None:
            stage = TASKS[task].draw(rng)
            question = TASKS[task].ask(stage, rng)
        examples.append(Example(stage, [question]))
    return examples
