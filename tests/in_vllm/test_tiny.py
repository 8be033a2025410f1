"""The embedded model answers a hundred questions about its world through vLLM as through illava."""

from __future__ import annotations

import numpy as np

from illava_cli import load
from illava_cli.evals.world import GROUPS, TASKS, stream
from illava_cli.evals.world.task import media
from illava_cli.models.catalog import EMBEDDED
from tests.in_vllm.asking import Question, answers, illavas, same

PER_TASK = 8
COUNT = 100


def questions() -> list[Question]:
    found = []
    for task in GROUPS["world"]:
        for seed in range(PER_TASK):
            rng, question = stream(task, seed, "validation"), None
            while question is None:
                stage = TASKS[task].draw(rng)
                question = TASKS[task].ask(stage, rng)
            shown = media(stage)
            videos = tuple(np.stack([np.asarray(f) for f in video]) for video in shown.get("videos", ()))
            found.append(Question(question[0], shown.get("images", ()), videos))
    return found[:COUNT]


def test_a_hundred_questions(engines):
    asked = questions()
    assert len(asked) == COUNT
    engine = engines.own(str(EMBEDDED["tiny"]), {"preset": "off"})
    session = load(
        "tiny", preset="off", device="cpu", dtype="float32", max_tokens=6, logprobs=5, ignore_eos=True
    )
    for question, own in zip(asked, answers(engine, session, asked), strict=True):
        ours = illavas(session, question)
        same(own, ours)
        assert own.tokens[0] == ours.tokens[0]
