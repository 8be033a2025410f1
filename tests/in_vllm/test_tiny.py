"""The embedded models answer a hundred questions about their world through vLLM as through illava."""

from __future__ import annotations

import numpy as np
import pytest

from illava_cli import load
from illava_cli.evals.world import GROUPS, TASKS, stream
from illava_cli.evals.world.task import media
from illava_cli.models.catalog import EMBEDDED
from tests.in_vllm.asking import Question, answers, illavas, same

PER_TASK = 8
TILE = 96  # pixels
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


def session_of(model: str, **settings):
    return load(model, device="cpu", dtype="float32", max_tokens=6, logprobs=5, ignore_eos=True, **settings)


# of `auto` what vLLM can do: what merges in the decoder leaves before it there
AUTO = {"llm": None, "input": {"method": "illava", "keep": 0.7}}


@pytest.mark.parametrize("settings", [{"preset": "off"}, {"preset": "auto"} | AUTO], ids=["off", "merged"])
@pytest.mark.parametrize("model", list(EMBEDDED))
def test_a_hundred_questions(engines, model, settings):
    asked = questions()
    assert len(asked) == COUNT
    engine, session = engines.own(str(EMBEDDED[model]), settings), session_of(model, **settings)
    for question, own in zip(asked, answers(engine, session, asked), strict=True):
        ours = illavas(session, question)
        same(own, ours)
        assert own.tokens[0] == ours.tokens[0]


@pytest.mark.parametrize("model", list(EMBEDDED))
def test_stock_vllm_loads_it(engines, model):
    """Names of weights and the size of heads are those that it knows; one tile needs no resizing."""
    asked = [one for one in questions() if len(one.images) == 1 and one.images[0].size == (TILE, TILE)][:8]
    said = answers(engines.stock_of(str(EMBEDDED[model])), session := session_of(model, preset="off"), asked)
    for question, own in zip(asked, said, strict=True):
        same(own, illavas(session, question))
