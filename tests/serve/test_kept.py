"""What a request holds and what is kept of it: caches of its very settings, room for its media."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from illava_cli.engine.runner import Runner
from illava_cli.errors import OutOfMemory
from illava_cli.serve import service
from illava_cli.serve.settings import ServeOptions
from tests.serve.asking_both import CLIP, QUESTIONS, SHAPES, Question, asked

testclient = pytest.importorskip("starlette.testclient", reason="needs FastAPI: pip install 'illava[serve]'")

CLIPPED = Question("Which way does the circle move?", (), (CLIP,))
MORE = Question("How many shapes are there?")


@pytest.fixture(scope="module")
def client(tiny_session):
    from illava_cli.serve.app import create_app

    app = create_app(tiny_session, ServeOptions(readers=1, request_s=30.0))
    with testclient.TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def answered(client, *questions, answers=(), **fields):
    """The answer's text and its usage."""
    found = client.post("/v1/chat/completions", json=asked(*questions, answers=answers, **fields))
    assert found.status_code == 200, found.text
    return found.json()["choices"][0]["message"]["content"], found.json()["usage"]


def cached(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


def test_a_clip_of_another_budget_is_another_conversation(client):
    budget = {"video_budget": 60}
    text, few = answered(client, CLIPPED, **budget)
    _, on = answered(client, CLIPPED, MORE, answers=(text,), **budget)
    assert cached(on) > 0
    text, few = answered(client, CLIPPED, **budget)
    _, usage = answered(client, CLIPPED, MORE, answers=(text,))
    assert cached(usage) == 0
    assert usage["visual_tokens"]["llm_in"] > few["visual_tokens"]["llm_in"]


def test_an_answer_that_a_token_has_cut_is_not_gone_on_from(client, tiny_session):
    whole = tiny_session.ask(QUESTIONS["image"].text, *QUESTIONS["image"].media)
    text, _ = answered(client, QUESTIONS["image"], stop_token_ids=[whole.token_ids[0]])
    _, usage = answered(client, QUESTIONS["image"], MORE, answers=(text,))
    assert cached(usage) == 0


def test_who_holds_media_does_not_wait_for_room(client, monkeypatch):
    monkeypatch.setattr(service, "HELD_BYTES", 1)
    another = Question("And this?", (SHAPES,))
    text, _ = answered(client, QUESTIONS["image"], another, answers=("never said",))
    assert text is not None


def test_who_was_shown_nothing_is_asked_again_with_fewer_beside_it(client, monkeypatch, tiny_session):
    step, failed, both = Runner.step, [], threading.Event()

    def runs_out(self, cache, answers):
        if len(answers) > 1 and not failed:
            failed.append(len(answers))
            raise OutOfMemory("out of memory")
        if not failed:
            both.wait(0.05)  # for the others to come
        return step(self, cache, answers)

    monkeypatch.setattr(Runner, "step", runs_out)
    ends = dict.fromkeys(map(str, sorted(tiny_session.family.end_ids)), -100)
    fields = {"max_tokens": 40, "logit_bias": ends}
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: answered(client, QUESTIONS["image"], **fields)[0], range(3)))
    assert failed
    assert len(set(found)) == 1
