"""Steps of fixed shapes give what steps of their own shapes give; recording them needs a GPU."""

import pytest
import torch

from illava_cli.engine.scheduler import Scheduler
from illava_cli.engine.session import Request
from illava_cli.models import graphs
from illava_cli.models.graphs import StepGraphs
from tests.conftest import picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32

QUESTIONS = [
    (Request("One.", [picture(200, 150, 1)]), 9),
    (Request("Two, and a longer question?"), 4),
    (Request("Three?", [picture(90, 60, 2)]), 6),
]


def answers_of(session):
    scheduler = Scheduler(session.runner, 3)
    for request, limit in QUESTIONS:
        own = session.updated([f"max_tokens={limit}"])
        scheduler.add(own.turn(own.prepare(request)))
    ended = {}
    with session.runner.alone():
        for turn, (answer, *_), error in scheduler.run():
            assert error is None
            ended[turn.prepared.request.prompt] = answer.tokens
    return ended


@pytest.mark.parametrize(
    "name", ["llava grid, paper", "qwen, paper", "qwen3, early", "internvl, original", "gemma4, paper"]
)
def test_steps_of_fixed_shape_are_steps(name, open_session, monkeypatch):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings, fresh=True)
    expected = answers_of(session)
    chat = session.chat()
    turns = [chat.ask("What?", [picture(90, 60, 2)]).token_ids, chat.ask("Why?", logits=True)]

    monkeypatch.setattr(graphs, "KEYS", 16)  # more than one shape
    monkeypatch.setattr(graphs, "KEPT", 2)
    shapes = []
    session.runner.graphs = StepGraphs(session.family, lambda run: shapes.append(1) or run)
    assert answers_of(session) == expected
    assert len(shapes) > 2
    chat = session.chat()
    assert chat.ask("What?", [picture(90, 60, 2)]).token_ids == turns[0]
    again = chat.ask("Why?", logits=True)
    torch.testing.assert_close(again.logits, turns[1].logits, **FLOAT32)
    assert again.token_ids == turns[1].token_ids


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["llava grid, paper", "qwen, paper"])
def test_recorded_steps_are_steps(name, open_session):
    family, settings = SCHEDULES[name]
    plain = open_session(family, *settings, "model.device=cuda", "model.dtype=float32")
    recorded = open_session(
        family, *settings, "model.device=cuda", "model.dtype=float32", "model.compile=true"
    )
    assert recorded.runner.graphs is not None
    assert answers_of(recorded) == answers_of(plain)
