"""A synthetic world of coloured shapes, and of documents, with questions whose answers are known.

    sample = generate("position", 7, "heldout")
    samples = questions(["colour", "reading"], 500)

A sample depends on its task, seed and split alone. The split's number is part of what the random stream
is seeded with, so no seed of one split gives the stream of another.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from illava_cli.errors import UsageError
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.world import documents, motion, several, text, things
from illava_cli.evals.world.styles import OTHERS, drawn_by
from illava_cli.evals.world.task import Task, media

SCENES: dict[str, Task] = {**things.TASKS, **text.TASKS, **several.TASKS, **motion.TASKS}
BY_HAND = {hand: {f"{hand}-{name}": drawn_by(hand, task) for name, task in SCENES.items()} for hand in OTHERS}
TASKS = SCENES | documents.TASKS | motion.LONG_TASKS
TASKS |= {name: task for tasks in BY_HAND.values() for name, task in tasks.items()}
# `world` stays what it was, so that figures measured on it stay comparable
GROUPS = {"world": tuple(SCENES), "documents": tuple(documents.TASKS), "long": tuple(motion.LONG_TASKS)}
GROUPS |= {hand: tuple(tasks) for hand, tasks in BY_HAND.items()}
SPLITS = {"train": 0, "validation": 1, "heldout": 2}


def check_split(split: str) -> None:
    """Raises `UsageError` for a split that there is not."""
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}: use {', '.join(SPLITS)}")


def stream(task: str, seed: int, split: str) -> np.random.Generator:
    """The random stream of one sample.

    Raises:
        UsageError: an unknown split, or a negative seed.
    """
    check_split(split)
    if seed < 0:
        raise UsageError(f"a seed is 0 or more, not {seed}")
    return np.random.default_rng([SPLITS[split], zlib.crc32(task.encode()), seed])


def generate(task: str, seed: int, split: str = "heldout") -> EvalSample:
    """The sample of that task and seed: always the same one.

    Raises:
        UsageError: an unknown task or split, or a negative seed.
    """
    if task not in TASKS:
        raise UsageError(f"unknown task {task!r}: use {', '.join(TASKS)}")
    kind, rng = TASKS[task], stream(task, seed, split)
    while True:
        stage = kind.draw(rng)
        question = kind.ask(stage, rng)
        if question is not None:
            prompt, answer = question
            return EvalSample(f"{task}/{split}/{seed}", task, prompt, answer, kind.choices, **media(stage))


def questions(tasks: Iterable[str], count: int, split: str = "heldout") -> Iterable[EvalSample]:
    """`count` samples, dealt out over the tasks in turn."""
    tasks = tuple(tasks)
    for index in range(count):
        yield generate(tasks[index % len(tasks)], index // len(tasks), split)
