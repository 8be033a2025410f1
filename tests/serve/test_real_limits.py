"""More than the server may do at once, or longer: what is refused says so, and nothing of it stays."""

from __future__ import annotations

import json

import openai
import pytest

from tests.serve.asking_both import QUESTIONS, asked
from tests.serve.on_the_wire import read_until, sent
from tests.serve.real_server import serving

pytest.importorskip("openai", reason="needs openai: pip install openai")

WORDS = QUESTIONS["text"]
LONG = 3000  # tokens: more than any test waits for


@pytest.fixture(scope="module")
def hasty():
    """A server that answers one at a time, lets none wait, and nothing take long."""
    with serving("--max-concurrency", "1", "--max-queue", "0", "--request-timeout", "6") as server:
        yield server


def test_beyond_the_queue_a_request_is_told_when_to_come_again(hasty, long_answer):
    with sent(hasty, asked(WORDS, **long_answer(LONG), stream=True)) as connection:
        read_until(connection, b'"content":"')
        refused = hasty.post(json=asked(WORDS))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")
        with pytest.raises(openai.RateLimitError):
            hasty.client().responses.create(model="tiny", input="What is shown?")
        assert hasty.get("/ready").status_code == 200
    hasty.until_at_rest()
    assert hasty.post(json=asked(WORDS)).status_code == 200


def test_openais_client_comes_again_by_itself(hasty, long_answer):
    with sent(hasty, asked(WORDS, **long_answer(LONG), stream=True)) as connection:
        read_until(connection, b'"content":"')
        patient = hasty.client().with_options(max_retries=50)
        answer = patient.chat.completions.create(**asked(WORDS))  # the other one's time is up meanwhile
    assert answer.choices[0].finish_reason == "stop"


def test_a_whole_answer_that_takes_too_long(hasty, long_answer):
    late = hasty.post(json=asked(WORDS, **long_answer(LONG)))
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    assert late.headers["x-should-retry"] == "false"
    hasty.until_at_rest()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_streamed_answer_that_takes_too_long_ends_with_the_error(hasty, long_answer, path):
    fields = long_answer(LONG)
    body = asked(WORDS, **fields, stream=True)
    if path == "/v1/responses":
        body = {"input": WORDS.items, "max_output_tokens": LONG, "stream": True}
        body["logit_bias"] = fields["logit_bias"]
    answer = hasty.post(path, json=body)
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    error = last["error"] if "error" in last else last["response"]["error"]
    assert "no answer within 6 s" in error["message"]
    hasty.until_at_rest()


def test_openais_client_raises_what_ends_a_stream(hasty, long_answer):
    with pytest.raises(openai.APIError, match="no answer within"):
        list(hasty.client().chat.completions.create(**asked(WORDS, **long_answer(LONG), stream=True)))
