"""Responses: what is asked, and what comes back, as the `openai` package writes and reads them."""

import json

import pytest
from pydantic import TypeAdapter

from illava_cli.errors import ContextError, OutOfMemory
from illava_cli.openai.asked import Asked, Bounds, Round
from illava_cli.openai.errors import RequestError
from illava_cli.openai.responses import NEUTRAL, ResponseEvents, read_response, response
from tests.openai.answering import LOGPROBS, PIECES, SERVED, TEXT, answering, generation

openai = pytest.importorskip("openai", reason="needs openai: pip install openai")
types = pytest.importorskip("openai.types.responses")

PNG = "data:image/png;base64,AAAA"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.fixture
def server():
    with answering(Bounds()) as server:
        yield server


@pytest.fixture
def client(server):
    with openai.OpenAI(api_key="-", base_url=server.url, max_retries=0) as client:
        yield client


# --- what is asked ------------------------------------------------------------------------------------


def test_a_text_is_a_question(client, server):
    client.responses.create(
        model="tiny", input="What?", instructions="Brief.", max_output_tokens=9, top_p=0.5
    )
    (asked,) = server.asked
    assert (asked.rounds, asked.system, asked.model) == ((Round("What?"),), "Brief.", "tiny")
    assert asked.settings == {"generation": {"top_p": 0.5, "max_tokens": 9}}


def test_a_conversation_goes_on_with_what_came_back(client, server):
    first = client.responses.create(model="tiny", input="What?")
    items = [
        {"role": "developer", "content": "No lists."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
            ],
        },
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"type": "message", "role": "user", "content": "And?"},
    ]
    client.responses.create(model="tiny", input=items, instructions="Brief.")
    asked = server.asked[1]
    assert asked.rounds == (Round("What?<image>", (PNG,)), Round("And?"))
    assert (asked.answers, asked.system) == ((TEXT,), "Brief.\nNo lists.")
    assert (asked.settings, asked.low_detail) == ({"media": {"max_tiles": 1}}, True)


def test_options_are_those_of_chat_completions():
    extra = {"seed": 1, "top_k": 5, "keep": 0.5, "fps": 1, "stop": "x", "metadata": {"a": "b"}, "user": "me"}
    asked = read_response(
        {"input": "?", "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}} | extra
    )
    assert asked.settings["generation"] == {
        "seed": 1,
        "top_k": 5,
        "stop": ["x"],
        "json_schema": json.dumps(SCHEMA),
    }
    assert (asked.keep, asked.settings["media"]["fps"]) == (0.5, 1.0)
    loose = {"input": "?", "text": {"format": {"type": "json_object"}, "verbosity": "low"}}
    assert read_response(loose).settings == {"generation": {"json_schema": '{"type": "object"}'}}
    wanted = {"input": "?", "include": ["message.output_text.logprobs", "x"], "top_logprobs": 2}
    assert read_response(wanted).settings == {"generation": {"logprobs": 2}}
    several = {name: values[0] for name, values in NEUTRAL.items() if values}
    assert read_response({"input": "?", "reasoning": {}, "store": True} | several) == read_response(
        {"input": "?"}
    )


REFUSED = [
    ({}, "input", "is missing"),
    ({"input": 1}, "input", "a text or a list"),
    ({"input": []}, "input", "not an empty one"),
    ({"input": " "}, "input[0].content", "asks nothing"),
    ({"input": [{"type": "function_call_output"}]}, "input[0].type", "only items of type message"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "only items of type message"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        "input[0].content[0].type",
        "'input_file'",
    ),
    ({"previous_response_id": "x"}, "previous_response_id", "not supported"),
    ({"conversation": "x"}, "conversation", "not supported"),
    ({"background": True}, "background", "not supported"),
    ({"tools": [{}]}, "tools", "not supported"),
    ({"prompt": {}}, "prompt", "not supported"),
    ({"truncation": "auto"}, "truncation", "not supported"),
    ({"instructions": 1}, "instructions", "must be a text"),
    ({"metadata": 1}, "metadata", "must be an object"),
    ({"include": "x"}, "include", "must be a list"),
    ({"max_tokens": 1}, "max_tokens", "did you mean 'max_output_tokens'"),
    ({"max_output_tokens": 0}, "max_output_tokens", "1 or more"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema", "JSON schema"),
    ({"text": {"form": 1}}, "text.form", "did you mean 'format'"),
    ({"temperature": "x"}, "temperature", "must be a number"),
]


@pytest.mark.parametrize(("options", "param", "why"), REFUSED)
def test_what_is_not_done_is_named(options, param, why):
    body = ({"input": "?"} if param.partition("[")[0] != "input" else {}) | options
    with pytest.raises(RequestError, match=why) as raised:
        read_response(body)
    assert raised.value.param == param
    assert len(str(raised.value).splitlines()) == 1


# --- what comes back ----------------------------------------------------------------------------------


def strictly(kind, data):
    return TypeAdapter(kind).validate_python(json.loads(json.dumps(data, allow_nan=False)), strict=True)


def test_a_whole_response(client):
    found = client.responses.create(model="tiny", input="?", temperature=0.5, metadata={"a": "b"})
    assert (found.id, found.status, found.output_text) == ("resp_1a2b", "completed", TEXT)
    assert (found.temperature, found.metadata, found.model, found.store) == (0.5, {"a": "b"}, "tiny", False)
    usage = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (150, 5, 155)
    assert (usage.input_tokens_details.cached_tokens, usage.visual_tokens["saved"]) == (30, 295)
    assert found.illava["merge_map"] == "/merge-maps/1a2b"


@pytest.mark.parametrize("reason", ["length", None])
def test_a_response_that_is_not_whole(reason):
    found = strictly(types.Response, response(generation(finish_reason=reason), SERVED, Asked((Round("?"),))))
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@pytest.mark.parametrize("logprobs", [None, LOGPROBS])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_bodies_and_events_are_those_of_the_package(logprobs, reason):
    form = {"type": "json_schema", "schema": SCHEMA}
    asked = read_response({"input": "?", "text": {"format": form}, "temperature": 1})
    answer = generation(logprobs=logprobs, finish_reason=reason)
    strictly(types.Response, response(answer, SERVED, asked))
    events = ResponseEvents(SERVED, asked)
    sent = [*events.begin(), events.piece("x", logprobs), *events.end(answer), *events.fail(OutOfMemory("x"))]
    assert [event["sequence_number"] for event in sent] == list(range(len(sent)))
    for event in sent:
        strictly(types.ResponseStreamEvent, event)


NAMES = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    *["response.output_text.delta"] * len(PIECES),
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def test_events(client):
    sent = list(client.responses.create(model="tiny", input="?", stream=True))
    assert [event.type for event in sent] == NAMES
    assert "".join(event.delta for event in sent if event.type == NAMES[4]) == TEXT
    assert sent[-1].response.usage.total_tokens == 155


def test_the_packages_own_stream(client):
    include = ["message.output_text.logprobs"]
    with client.responses.stream(model="tiny", input="?", include=include) as stream:
        found = stream.get_final_response()
    assert (found.output_text, found.status) == (TEXT, "completed")
    assert [one.token for one in found.output[0].content[0].logprobs] == ["Two ", "кошки"]


def test_a_stream_that_ends_at_the_bound_of_its_tokens():
    with answering(Bounds(), reason="length") as server:
        client = openai.OpenAI(api_key="-", base_url=server.url)
        last = list(client.responses.create(model="tiny", input="?", stream=True))[-1]
    assert (last.type, last.response.incomplete_details.reason) == (
        "response.incomplete",
        "max_output_tokens",
    )


@pytest.mark.parametrize(
    ("error", "code"), [(ContextError("too long"), "invalid_prompt"), (KeyError("x"), "server_error")]
)
def test_what_breaks_a_stream_off(error, code):
    with answering(Bounds(), error=error) as server:
        client = openai.OpenAI(api_key="-", base_url=server.url)
        last = list(client.responses.create(model="tiny", input="?", stream=True))[-1]
    assert (last.type, last.response.status, last.response.error.code) == ("response.failed", "failed", code)
