"""The answers of chat completions, as the `openai` package reads them from a server."""

import json

import pydantic
import pytest

from illava_cli.errors import Timeout
from illava_cli.openai.asked import Asked, Bounds, Round
from illava_cli.openai.chat import ChatEvents, completion
from tests.openai.answering import LOGPROBS, PIECES, SERVED, TEXT, answering, generation

openai = pytest.importorskip("openai", reason="needs openai: pip install openai")
ChatCompletion, ChatCompletionChunk = openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk

QUESTION = [{"role": "user", "content": "How many cats?"}]


@pytest.fixture
def server():
    with answering(Bounds()) as server:
        yield server


def client_of(server):
    return openai.OpenAI(api_key="-", base_url=server.url, max_retries=0)


@pytest.fixture
def ask(server):
    with client_of(server) as client:
        yield lambda **options: client.chat.completions.create(model="tiny", messages=QUESTION, **options)


def strictly(kind, data):
    """As the package's own types would have it, which its client does not insist on."""
    return kind.model_validate(json.loads(json.dumps(data, allow_nan=False)), strict=True)


def test_a_whole_answer(ask, server):
    found = ask(n=2, extra_body={"keep": 0.5, "mm_processor_kwargs": {"num_frames": 4}})
    (asked,) = server.asked
    assert (asked.keep, asked.settings, asked.n) == (0.5, {"media": {"num_frames": 4}}, 2)
    assert (found.id, found.object, found.created) == ("chatcmpl-1a2b", "chat.completion", 1700000000)
    assert (found.model, found.system_fingerprint) == ("tiny", "abc")
    for index, choice in enumerate(found.choices):
        assert (choice.index, choice.finish_reason, choice.logprobs) == (index, "stop", None)
        assert (choice.message.role, choice.message.content, choice.message.refusal) == (
            "assistant",
            TEXT,
            None,
        )


def test_usage_says_what_merging_saved_and_what_was_cached(ask):
    usage = ask(n=2).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (150, 10, 160)
    assert usage.prompt_tokens_details.cached_tokens == 30
    assert usage.visual_tokens == {
        "patches": 729,
        "vision_kept": 361,
        "llm_in": 196,
        "llm_kept": 98,
        "newlines_in": 14,
        "newlines_kept": 7,
        "unmerged": 400,
        "left_out": 0,
        "frames_in": 0,
        "frames_kept": 0,
        "saved": 295,
        "reused": 1,
    }


def test_what_this_program_says_beside(ask):
    said = ask().illava
    assert (said["preset"], said["notes"], said["merge_map"]) == ("auto", ["a note"], "/merge-maps/1a2b")
    assert (said["timings"]["media_s"], said["timings"]["ttft_s"]) == (0.25, 0.5)


def test_an_answer_that_was_broken_off_is_not_whole():
    body = completion([generation(finish_reason=None), generation(finish_reason="length")], SERVED)
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length", "length"]
    strictly(ChatCompletion, body)


def test_log_probabilities(ask):
    (choice,) = ask(logprobs=True, top_logprobs=1).choices
    first, second = choice.logprobs.content
    assert (first.token, first.logprob, bytes(first.bytes).decode()) == ("Two ", -0.5, "Two ")
    assert (second.token, bytes(second.bytes).decode()) == ("кошки", "кошки")
    # what JSON has no number for, and half a character
    (top,) = second.top_logprobs
    assert (top.token, top.logprob, top.bytes) == ("\ufffd", -9999.0, None)


@pytest.mark.parametrize("logprobs", [None, LOGPROBS])
def test_bodies_are_those_of_the_package(logprobs):
    answer = generation(logprobs=logprobs)
    strictly(ChatCompletion, completion([answer, answer], SERVED))
    for include_usage in (False, True):
        events = ChatEvents(SERVED, Asked((Round("?"),), include_usage=include_usage))
        for chunk in (
            events.begin(0),
            events.piece(0, "x", logprobs),
            events.end(0, answer),
            events.usage([answer]),
        ):
            strictly(ChatCompletionChunk, chunk)


def test_an_answer_in_pieces(ask):
    chunks = list(ask(stream=True, n=2))
    assert {chunk.id for chunk in chunks} == {"chatcmpl-1a2b"}
    for index in range(2):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert [choice.delta.content for choice in own] == ["", *PIECES, None]
        assert [choice.finish_reason for choice in own] == [None] * 5 + ["stop"]
    assert chunks[-1].illava["preset"] == "auto"
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)


def test_the_last_chunk_says_the_usage_where_it_is_wanted(ask):
    *chunks, last = ask(stream=True, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens, last.usage.visual_tokens["saved"]) == ([], 155, 295)
    assert last.illava["merge_map"] == "/merge-maps/1a2b"
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
    assert not hasattr(chunks[-1], "illava")


def test_log_probabilities_come_with_their_pieces(ask):
    chunks = list(ask(stream=True, logprobs=True))
    told = [chunk.choices[0].logprobs for chunk in chunks]
    assert [one.content[0].token for one in told if one is not None and one.content] == ["Two ", "кошки"]


def test_the_packages_own_stream(server):
    with client_of(server) as client:
        options = {"stream_options": {"include_usage": True}, "logprobs": True}
        with client.chat.completions.stream(model="tiny", messages=QUESTION, **options) as stream:
            found = stream.get_final_completion()
    assert (found.choices[0].message.content, found.usage.total_tokens) == (TEXT, 155)
    assert len(found.choices[0].logprobs.content) == 2


def test_a_schema_of_the_package_comes_as_a_schema(server):
    class Cats(pydantic.BaseModel):
        number: int

    with client_of(server) as client, pytest.raises(pydantic.ValidationError):  # the answer is no JSON
        client.chat.completions.parse(model="tiny", messages=QUESTION, response_format=Cats)
    schema = json.loads(server.asked[0].settings["generation"]["json_schema"])
    assert schema["properties"]["number"]["type"] == "integer"


def test_a_refusal_names_its_place(ask):
    with pytest.raises(openai.BadRequestError, match="n: must be from 1 to 8") as raised:
        ask(n=9)
    assert (raised.value.param, raised.value.type) == ("n", "invalid_request_error")


def test_what_breaks_a_stream_off_is_an_error_of_the_client():
    with answering(Bounds(), error=Timeout("too slow")) as server, client_of(server) as client:
        stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError, match="too slow"):
            list(stream)
