"""Accuracy on validation questions, teacher-forced.

An answer is right where each of its tokens is the likeliest: a right greedy answer, in one forward pass.
"""

from __future__ import annotations

from collections import defaultdict

import torch

from illava_cli.evals.world import GROUPS
from illava_cli.evals.world.task import Still
from tiny.batches import Builder, Example
from tiny.recipe import checks


def right_answers(builder: Builder, examples: list[Example]) -> list[bool]:
    """For each answer of the batch, whether it is right."""
    out = builder.forward(examples)
    wrong = torch.zeros(int(out.numbers[-1]) + 1, dtype=torch.long, device=out.logits.device)
    wrong.index_add_(0, out.numbers, (out.logits.argmax(-1) != out.target).long())
    return (wrong == 0).tolist()


@torch.no_grad()
def accuracy(
    builder: Builder,
    count: int,
    tasks: tuple[str, ...] = (*GROUPS["world"], *GROUPS["documents"], *GROUPS["long"]),
    size: int = 16,
) -> dict[str, float]:
    """Share of right answers by task, over `count` validation questions each."""
    builder.model.eval()
    result = {}
    for task in tasks:
        alike: dict[tuple, list[Example]] = defaultdict(list)
        for example in checks(task, count):
            stage = example.stage
            alike[(stage.scene.width, stage.scene.height) if isinstance(stage, Still) else ()].append(example)
        right = [
            answer
            for group in alike.values()
            for i in range(0, len(group), size)
            for answer in right_answers(builder, group[i : i + size])
        ]
        result[task] = sum(right) / len(right)
    builder.model.train()
    return result
