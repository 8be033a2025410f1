"""What the tests of the trainer share: a small size of the embedded model, questions with their stages."""

from __future__ import annotations

from illava_cli.evals.world import TASKS, stream
from illava_cli.evals.world.task import Question, Stage

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96}


def staged(task: str, seed: int = 0) -> tuple[Stage, Question]:
    """A stage of a task, for validation, and a question about it."""
    rng = stream(task, seed, "validation")
    while True:
        stage = TASKS[task].draw(rng)
        question = TASKS[task].ask(stage, rng)
        if question is not None:
            return stage, question
