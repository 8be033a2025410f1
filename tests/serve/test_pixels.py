"""`min_pixels` and `max_pixels` of requests, to a model that takes any size and to one of tiles."""

from __future__ import annotations

import pytest

from illava_cli.serve.settings import ServeOptions
from tests.serve.asking_both import QUESTIONS, Question, asked

testclient = pytest.importorskip("starlette.testclient", reason="needs FastAPI: pip install 'illava[serve]'")

MORE = Question("How many shapes are there?")
SETTINGS = ("preset=off", "generation.max_tokens=2")


@pytest.fixture(scope="module")
def session(open_session):
    return open_session("qwen2_vl", *SETTINGS)


@pytest.fixture(scope="module")
def client(session):
    from illava_cli.serve.app import create_app

    app = create_app(session, ServeOptions(readers=1, request_s=60.0, name="tiny"))
    with testclient.TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def usage(client, *questions, answers=(), **fields):
    found = client.post("/v1/chat/completions", json=asked(*questions, answers=answers, **fields))
    assert found.status_code == 200, found.text
    return found.json()["usage"]


def refused(client, question, **fields):
    found = client.post("/v1/chat/completions", json=asked(question, **fields))
    assert found.status_code == 400, found.text
    return found.json()["error"]["message"]


@pytest.mark.parametrize("question", ["image", "both"])
@pytest.mark.parametrize("where", ["body", "mm_processor_kwargs"])
def test_a_request_says_what_a_picture_and_a_frame_cost(client, session, where, question):
    bounds = {"min_pixels": 2000, "max_pixels": 4000}
    expected = QUESTIONS[question].asked_of(session.updated([f"{k}={v}" for k, v in bounds.items()])).usage
    found = usage(client, QUESTIONS[question], **(bounds if where == "body" else {where: bounds}))
    assert found["prompt_tokens"] == expected.prompt_tokens
    assert found["visual_tokens"]["llm_in"] == expected.visual.llm_in
    assert expected.visual.llm_in < QUESTIONS[question].asked_of(session).usage.visual.llm_in


def test_a_picture_of_other_bounds_is_another_conversation(client):
    said = {"max_pixels": 4000}
    first = client.post("/v1/chat/completions", json=asked(QUESTIONS["image"], **said)).json()
    answers = (first["choices"][0]["message"]["content"],)
    other = usage(client, QUESTIONS["image"], MORE, answers=answers, max_pixels=9000)
    assert other["prompt_tokens_details"]["cached_tokens"] == 0


def test_bounds_that_a_request_cannot_have(client):
    assert "max_pixels" in refused(client, QUESTIONS["image"], max_pixels=2**24 + 1)
    assert "min_pixels: is over max_pixels" in refused(
        client, QUESTIONS["image"], min_pixels=5000, max_pixels=4000
    )


def test_a_model_with_tiles_says_what_bounds_it(tiny_session):
    from illava_cli.serve.app import create_app

    app = create_app(tiny_session, ServeOptions(readers=1, request_s=60.0, name="tiny"))
    with testclient.TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        for kind in ("image", "video"):
            message = refused(client, QUESTIONS[kind], max_pixels=4000)
            assert "min_pixels and max_pixels are for" in message
            assert "give max_tiles or num_frames" in message
