"""A client that goes away costs no more from then on, and the others are answered as ever."""

from __future__ import annotations

import pytest

from tests.media.server import serving as web_site
from tests.serve.asking_both import QUESTIONS, SHAPES, Question, asked
from tests.serve.on_the_wire import read_until, sent
from tests.serve.real_server import serving

pytest.importorskip("openai", reason="needs openai: pip install openai")

WORDS, IMAGE = QUESTIONS["text"], QUESTIONS["image"]
LONG = 3000  # tokens: more than any test waits for
GONE = 'requests_total{endpoint="/v1/chat/completions",status="499"}'


@pytest.fixture(scope="module")
def site():
    with web_site() as site:
        yield site


@pytest.fixture(scope="module")
def narrow(site):
    """A server that answers one at a time."""
    with serving("--max-concurrency", "1", "--max-queue", "8", "--allow-hosts", site.host) as server:
        yield server


def left(server, before):
    """The server at rest, after one more has left it."""
    server.until_figures(lambda figures: figures.get(GONE, 0) == before.get(GONE, 0) + 1)
    return server.until_at_rest()


def test_midway_in_a_stream(narrow, long_answer):
    before = narrow.figures()
    with sent(narrow, asked(IMAGE, **long_answer(LONG), stream=True)) as connection:
        read_until(connection, b'"delta":{"content":"')
        assert narrow.figures()["rows"] == 1
    after = left(narrow, before)
    assert after["conversations_kept"] == before["conversations_kept"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_midway_in_a_whole_answer(narrow, long_answer, path):
    gone = GONE.replace("/v1/chat/completions", path)
    before = narrow.figures().get(gone, 0)
    fields = long_answer(LONG)
    body = asked(WORDS, **fields)
    if path == "/v1/responses":
        body = {"input": WORDS.items, "max_output_tokens": LONG, "logit_bias": fields["logit_bias"]}
    with sent(narrow, body, path):
        narrow.until_figures(lambda figures: figures["rows"] == 1)
    narrow.until_figures(lambda figures: figures.get(gone, 0) == before + 1)
    narrow.until_at_rest()


@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_token_while_another_is_answered(narrow, long_answer, tiny_session, stream):
    ends = [f"generation.logit_bias={long_answer(1)['logit_bias']}".replace("'", '"')]
    expected = IMAGE.asked_of(tiny_session.updated([*ends, "generation.max_tokens=150"]))
    before = narrow.figures()
    body = asked(IMAGE, **long_answer(150), stream=True)
    with sent(narrow, body) as other:
        read_until(other, b'"delta":{"content":"')
        with sent(narrow, asked(WORDS, **long_answer(LONG), stream=stream)):
            narrow.until_figures(lambda figures: figures["queue"] == 1)
        found = narrow.until_figures(lambda figures: figures["queue"] == 0)
        assert found["in_flight"] <= 1
        rest = read_until(other, b"[DONE]")
    left(narrow, before)
    assert rest.count(b'"delta":{"content"') > 50
    again = narrow.client().chat.completions.create(**asked(IMAGE, **long_answer(150)))
    assert again.choices[0].message.content == expected.text


def test_while_its_media_are_read(narrow, site):
    before = narrow.figures()
    body = asked(WORDS)
    url = site.silent("/never.png")
    body["messages"][0]["content"].insert(0, {"type": "image_url", "image_url": {"url": url}})
    with sent(narrow, body):
        narrow.until_figures(lambda figures: figures["readers_busy"] == 1)
    left(narrow, before)
    answer = narrow.client().chat.completions.create(**asked(IMAGE))
    assert answer.choices[0].message.content == "circle"


def test_before_it_has_sent_all(narrow):
    before = narrow.figures()
    with sent(narrow, asked(WORDS)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
        read_until(connection, b'"finish_reason":')
    assert narrow.until_at_rest()["in_flight"] == before["in_flight"] == 0


def test_a_conversation_that_was_left_midway_goes_on(narrow, long_answer):
    first = Question("What shape is the red one?", (SHAPES,))
    second = Question("How many shapes are there?")
    client = narrow.client()
    one = client.chat.completions.create(**asked(first)).choices[0].message.content
    two = client.chat.completions.create(**asked(first, second, answers=(one,)))
    before = narrow.figures()
    body = asked(first, second, answers=(one,), **long_answer(LONG), stream=True)
    with sent(narrow, body) as connection:
        read_until(connection, b'"content":"')
        read_until(connection, b'"content":"')
    left(narrow, before)
    again = client.chat.completions.create(**asked(first, second, answers=(one,)))
    assert again.choices[0].message.content == two.choices[0].message.content
    assert (
        again.usage.prompt_tokens_details.cached_tokens == two.usage.prompt_tokens_details.cached_tokens > 0
    )


def test_nothing_is_said_of_it_but_that_it_left(narrow):
    assert "499" in narrow.said
    assert "Exception" not in narrow.said
    assert "Traceback" not in narrow.said
