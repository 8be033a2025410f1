"""One request: what is taken of its answer, and what a failure is."""

from __future__ import annotations

import asyncio
import socket

import pytest

from illava_cli.bench.serving.asking import Asker, about
from illava_cli.bench.serving.lengths import accepted, end_tokens
from illava_cli.bench.serving.samples import Sample
from illava_cli.client.server import Server
from illava_cli.config import resolve
from illava_cli.errors import ServerError
from tests.serve.fake_server import Canned, usage

QUESTION = [{"role": "user", "content": "What?"}]


def within(server, work, seconds=60.0, key=None, **fields):
    """What `work` gives, called with an asker."""

    async def run():
        async with Asker(Server.of(server.url, key), {"model": "tiny", **fields}, seconds) as asker:
            return await work(asker)

    return asyncio.run(run())


def ask(server, **options):
    return within(server, lambda asker: asker.ask(QUESTION, Sample(0.0)), **options)


def test_an_answer_in_pieces(server):
    said = usage(words=3, cached=40)
    server.answer = lambda body: Canned(("Ein ", "Käfer", "."), said, {"timings": {"vision_s": 0.5}})
    sample = ask(server, max_tokens=7, key="secret")
    assert (sample.error, sample.text, sample.finish) == (None, "Ein Käfer.", "stop")
    assert sample.usage == said
    assert sample.timings == {"vision_s": 0.5}
    assert sample.due < sample.first <= sample.last
    (asked,) = server.asked
    assert asked["body"]["stream"] is True
    assert asked["body"]["stream_options"] == {"include_usage": True}
    assert (asked["body"]["max_tokens"], asked["body"]["messages"]) == (7, QUESTION)
    assert asked["headers"]["Authorization"] == "Bearer secret"


def test_an_answer_without_a_word_has_its_end_for_its_first_token(server):
    server.answer = lambda body: Canned((), usage(words=1))
    sample = ask(server)
    assert sample.error is None
    assert sample.first == sample.last


@pytest.mark.parametrize(
    ("canned", "error", "message"),
    [
        (Canned(status=429, error="one after another"), "status 429", "one after another"),
        (Canned(status=500, error="oh"), "status 500", "oh"),
        (Canned(breaks=True), "broken answer", "the answer broke off"),
        (Canned(error="out of memory"), "broken answer", "out of memory"),
    ],
)
def test_failures_have_kinds(server, canned, error, message):
    server.answer = lambda body: canned
    sample = ask(server)
    assert (sample.error, sample.message) == (error, message)
    assert sample.first_s is None


def test_an_answer_that_does_not_end_in_time(server):
    server.answer = lambda body: Canned(held=True)
    assert ask(server, seconds=0.2).error == "timeout"
    assert server.gone.wait(60)  # the server is not left with it


def nobody() -> str:
    """The address of a port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


def test_a_server_that_is_not_there():
    class Absent:
        url = nobody()

    sample = ask(Absent)
    assert sample.error == "connection"
    assert sample.message
    with pytest.raises(ServerError, match=r"cannot be reached .*illava serve"):
        about(Server.of(Absent.url))


def test_what_a_server_says_of_itself(server):
    found = about(Server.of(server.url))
    assert found == {"models": {"tiny": {"preset": "auto", "limits": {}}}, "version": None}
    server.key = "secret"
    with pytest.raises(ServerError, match="401: A valid API key is needed; give --server-key"):
        about(Server.of(server.url))


# --- equal lengths --------------------------------------------------------------------------------


def refusing(*names):
    def answer(body):
        found = [name for name in names if name in body]
        return Canned(status=400, error=f"{found} not supported") if found else Canned()

    return answer


@pytest.mark.parametrize(
    ("refused", "tokens", "way", "fields"),
    [
        ((), [7], "ignore_eos", {"ignore_eos": True}),
        (("ignore_eos",), [7, 9], "logit_bias", {"logit_bias": {"7": -100, "9": -100}}),
        (("ignore_eos",), [], None, {}),
        (("ignore_eos", "logit_bias"), [7], None, {}),
    ],
)
def test_how_answers_get_equal_lengths(server, refused, tokens, way, fields):
    server.answer = refusing(*refused)
    assert within(server, lambda asker: accepted(asker, tokens)) == (way, fields)


def test_the_end_tokens_of_checkpoints_here():
    assert end_tokens(resolve("tiny", environ={})) == [668, 666]
    assert end_tokens(resolve("random:llava-onevision-toy", environ={})) == []
