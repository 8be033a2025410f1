"""Bugs of ours: a request fails, nothing of it stays or is told, and the next is answered."""

from __future__ import annotations

import io
import logging

import pytest

from illava_cli.engine.runner import Runner
from illava_cli.engine.session import Session
from illava_cli.serve import service
from illava_cli.serve.logs import NAMES, log_to_stderr
from illava_cli.serve.settings import ServeOptions
from tests.serve.asking_both import QUESTIONS, Question, asked

testclient = pytest.importorskip("starlette.testclient", reason="needs FastAPI: pip install 'illava[serve]'")

IMAGE = QUESTIONS["image"]
SECRET = "MARKED words"


@pytest.fixture(scope="module")
def client(tiny_session):
    from illava_cli.serve.app import create_app

    app = create_app(tiny_session, ServeOptions(readers=1))
    with testclient.TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def logged(monkeypatch):
    """What the server writes."""
    loggers = [logging.getLogger(name) for name in (*NAMES, "illava")]
    before = [(one, one.handlers, one.propagate, one.level) for one in loggers]
    monkeypatch.setattr("sys.stderr", written := io.StringIO())
    log_to_stderr(quiet=False)
    yield written.getvalue
    for one, handlers, propagate, level in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def figures(client):
    lines = client.get("/metrics").text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def fails(*_, **__):
    raise KeyError(f"{SECRET} in a bug")


def fails_later(times):
    """A step that fails after so many."""
    own, left = Runner.step, [times]

    def step(self, cache, answers):
        left[0] -= 1
        if left[0] < 0:
            fails()
        own(self, cache, answers)

    return step


@pytest.mark.parametrize(
    ("where", "name", "stand_in"),
    [
        (Session, "prepare", fails),
        (Session, "turn", fails),
        (Runner, "encode", fails),
        (Runner, "step", fails),
        (service, "generation_of", fails),
        (service.Conversations, "take", fails),
        (service.Sessions, "of", fails),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_costs_its_request_only(client, monkeypatch, logged, where, name, stand_in, stream):
    good = client.post("/v1/chat/completions", json=asked(IMAGE)).json()
    said = good["choices"][0]["message"]["content"]
    body = asked(Question(SECRET, IMAGE.images), stream=stream)
    with monkeypatch.context() as patched:
        patched.setattr(where, name, stand_in)
        if name == "take":  # only where a conversation goes on
            body = asked(IMAGE, Question(SECRET), answers=(said,), stream=stream)
        answer = client.post("/v1/chat/completions", json=body)
    assert "the server failed at this request" in answer.text
    if not stream or name not in ("step", "generation_of"):  # else there were pieces before
        assert answer.status_code == 500
    found = figures(client)
    for what in ("in_flight", "rows", "queue", "media_held_bytes", "readers_busy"):
        assert found[f"illava_{what}"] == 0, what
    again = client.post("/v1/chat/completions", json=asked(IMAGE))
    assert again.json()["choices"][0]["message"]["content"] == said
    written = logged()
    assert "KeyError" in written
    assert "MARKED" not in written + answer.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_bug_midway_ends_the_stream_with_an_error(client, monkeypatch, long_answer, path, logged):
    fields = long_answer(20)
    body = asked(IMAGE, **fields, stream=True)
    if path == "/v1/responses":
        body = {"input": IMAGE.items, "stream": True, "logit_bias": fields["logit_bias"]}
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "step", fails_later(5))
        answer = client.post(path, json=body)
    assert answer.status_code == 200
    last = answer.text.strip().rpartition("\n\n")[2]
    assert "the server failed at this request" in last
    assert "[DONE]" not in answer.text
    assert "KeyError" in logged()
