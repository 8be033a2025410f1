"""What a chat completion's body may not ask: each refusal is one line that names its place."""

import json

import pytest

from illava_cli.openai.asked import Bounds
from illava_cli.openai.chat import read_chat
from illava_cli.openai.errors import RequestError
from illava_cli.openai.fields import read_body
from tests.openai.asking import asked, body, image, text, user

SYSTEM, TOOL = {"role": "system", "content": "x"}, {"role": "tool", "content": "x", "tool_call_id": "1"}
ANSWER, QUESTION = {"role": "assistant", "content": "x"}, user(text("?"))

MESSAGES = [
    (None, "messages", "give a list of messages"),
    ([], "messages", "not an empty one"),
    ({}, "messages", "not an object"),
    (["x"], "messages[0]", "not a text"),
    ([SYSTEM], "messages", "asks nothing"),
    ([ANSWER, QUESTION], "messages[0].role", "begins with the user's"),
    ([QUESTION, ANSWER], "messages[1].role", "the last message must be the user's"),
    ([QUESTION, SYSTEM, QUESTION], "messages[1].role", "come at the beginning"),
    ([QUESTION, TOOL], "messages[1].role", "calls no tools"),
    ([QUESTION, {"role": "function", "content": "x"}], "messages[1].role", "calls no tools"),
    ([{"role": "usr", "content": "x"}], "messages[0].role", "did you mean 'user'"),
    ([{"content": "x"}], "messages[0].role", "not null"),
    ([QUESTION, ANSWER | {"tool_calls": [{}]}, QUESTION], "messages[1].tool_calls", "not supported"),
    ([QUESTION, {"role": "assistant", "content": None}, QUESTION], "messages[1].content", "is missing"),
    ([{"role": "user", "content": "x", "contents": 1}], "messages[0].contents", "did you mean 'content'"),
    ([{"role": "user", "content": 1}], "messages[0].content", "not a number"),
    ([{"role": "user", "content": "  "}], "messages[0].content", "asks nothing"),
    ([user(image())], "messages[0].content", "asks nothing"),
    ([user("x")], "messages[0].content[0]", "not a text"),
    ([user({"text": "x"})], "messages[0].content[0].type", "not null"),
    ([user({"type": "text"})], "messages[0].content[0].text", "not null"),
    (
        [user({"type": "input_audio", "input_audio": {}})],
        "messages[0].content[0].type",
        "'input_audio' are not read",
    ),
    ([user({"type": "file", "file": {}})], "messages[0].content[0].type", "'file' are not read"),
    (
        [SYSTEM | {"content": [image()]}, QUESTION],
        "messages[0].content[0].type",
        "'image_url' are not read here",
    ),
    ([user({"type": "image_url"})], "messages[0].content[0].image_url", "has no url"),
    ([user({"type": "image_url", "image_url": {}})], "messages[0].content[0].image_url", "has no url"),
    ([user({"type": "image_url", "image_url": 1})], "messages[0].content[0].image_url", "must be a text"),
    ([user(image(" "))], "messages[0].content[0].image_url.url", "has no url"),
    ([user(image("/etc/passwd"))], "messages[0].content[0].image_url.url", "http, https, data or file URL"),
    ([user(image("-"))], "messages[0].content[0].image_url.url", "http, https, data or file URL"),
    ([user(image("ftp://host/a"))], "messages[0].content[0].image_url.url", "http, https, data or file URL"),
    ([user(image(detail="hi"))], "messages[0].content[0].image_url.detail", "low, high, auto"),
    ([user(image(urll="x"))], "messages[0].content[0].image_url.urll", "did you mean 'url'"),
    ([user(image(data="x"))], "messages[0].content[0].image_url", "give url or data"),
    ([user({"type": "input_image", "file_id": "x"})], "messages[0].content[0].file_id", "unknown field"),
    (
        [user({"type": "input_image", "data": "AA", "mime": "a/b,c"})],
        "messages[0].content[0].data",
        "written as image/jpeg",
    ),
    (
        [user({"type": "video", "video": "x", "detail": "low"})],
        "messages[0].content[0].detail",
        "unknown field",
    ),
]


@pytest.mark.parametrize(("messages", "param", "why"), MESSAGES)
def test_a_message_that_is_not_answered_is_named(messages, param, why):
    refuses({"messages": messages}, param, why)


OPTIONS = [
    ({"temperature": "1"}, "temperature", "must be a number, not a text"),
    ({"temperature": True}, "temperature", "must be a number, not true"),
    ({"temperature": -1}, "temperature", "greater than or equal to 0"),
    ({"temperature": 1e-5}, "temperature", "must be 0 \\(greedy\\)"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"top_k": 1.5}, "top_k", "integer"),
    ({"min_p": 2}, "min_p", "less than or equal to 1"),
    ({"seed": -1}, "seed", "greater than or equal"),
    ({"max_tokens": 0}, "max_tokens", "from 1 to 100"),
    ({"max_completion_tokens": 101}, "max_completion_tokens", "from 1 to 100"),
    ({"max_tokens": 2.5}, "max_tokens", "whole number"),
    ({"n": 9}, "n", "from 1 to 8"),
    ({"n": 0}, "n", "from 1 to 8"),
    ({"n": 10**19}, "n", "from 1 to 8"),
    ({"stop": 1}, "stop", "must be a text"),
    ({"stop": ["a", None]}, r"stop[1]", "not null"),
    ({"stop": ["a"] * 65}, "stop", "at most 64"),
    ({"stop_token_ids": [-1]}, "stop_token_ids.0", "greater than or equal"),
    ({"stop_token_ids": "[1]"}, "stop_token_ids", "must be a list"),
    ({"logit_bias": "{}"}, "logit_bias", "must be an object"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x", "integer"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100"),
    ({"logit_bias": {"5": "1"}}, "logit_bias.5", "must be a number"),
    ({"logprobs": 5}, "logprobs", "true or false"),
    ({"top_logprobs": 5}, "top_logprobs", "needs logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "from 0 to 20"),
    ({"stream": 1}, "stream", "true or false"),
    ({"stream_options": {"include_usages": True}}, "stream_options.include_usages", "did you mean"),
    (
        {"stream_options": {"continuous_usage_stats": True}},
        "stream_options.continuous_usage_stats",
        "not supported",
    ),
    ({"model": 1}, "model", "must be a text"),
    ({"response_format": {}}, "response_format.type", "is missing"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "one of text, json_object"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "must be an object"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        "response_format.json_schema.schema",
        "JSON schema",
    ),
    ({"tools": [{}]}, "tools", "not supported"),
    ({"tool_choice": "required"}, "tool_choice", "not supported"),
    ({"functions": [{}]}, "functions", "not supported"),
    ({"audio": {}}, "audio", "not supported"),
    ({"modalities": ["text", "audio"]}, "modalities", "not supported"),
    ({"best_of": True}, "best_of", "not supported"),
    ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
    ({"guided_json": {}}, "guided_json", "unknown field"),
    ({"preset": "of"}, "preset", "did you mean 'off'"),
    ({"preset": "/etc/x.yaml"}, "preset", "no such preset"),
    ({"preset": False}, "preset", "must be a text"),
    ({"keep": 0}, "keep", "over 0"),
    ({"keep": 1.5}, "keep", "at most 1"),
    ({"method": 1}, "method", "must be a text"),
    ({"num_frames": 257}, "num_frames", "from 1 to 256"),
    ({"fps": 0}, "fps", "over 0"),
    ({"fps": 10**6}, "fps", "at most 1000"),
    ({"start": 3, "end": 2}, "start", "before end"),
    ({"start": -1}, "start", "greater than or equal"),
    ({"max_tiles": 65}, "max_tiles", "from 1 to 64"),
    ({"max_pixels": 2**24 + 1}, "max_pixels", "from 1 to 16777216"),
    ({"min_pixels": 9, "mm_processor_kwargs": {"max_pixels": 8}}, "min_pixels", "is over max_pixels"),
    (
        {"media_io_kwargs": {"image": {"max_pixels": 9000}}},
        "media_io_kwargs.image.max_pixels",
        "unknown field",
    ),
    ({"video_budget": 0}, "video_budget", "1 or more"),
    ({"chat_template_kwargs": True}, "chat_template_kwargs", "must be an object"),
    (
        {"chat_template_kwargs": {"enable_thinking": 1}},
        "chat_template_kwargs.enable_thinking",
        "true or false",
    ),
    (
        {"chat_template_kwargs": {"add_vision_id": True}},
        "chat_template_kwargs.add_vision_id",
        "unknown field",
    ),
    ({"merge_map": "x"}, "merge_map", "true or false"),
    ({"mm_processor_kwargs": {"size": 1}}, "mm_processor_kwargs.size", "unknown field"),
    ({"mm_processor_kwargs": {"fps": "2"}}, "mm_processor_kwargs.fps", "must be a number"),
    ({"mm_processor_kwargs": {"fps": 2}, "fps": 3}, "mm_processor_kwargs.fps", "contradicts fps"),
    ({"media_io_kwargs": {"video": {"num_frames": 0}}}, "media_io_kwargs.video.num_frames", "from 1 to 256"),
    ({"media_io_kwargs": {"audio": {}}}, "media_io_kwargs.audio", "unknown field"),
    ({"media_io_kwargs": []}, "media_io_kwargs", "must be an object"),
]


@pytest.mark.parametrize(("options", "param", "why"), OPTIONS)
def test_an_option_that_cannot_be_is_named(options, param, why):
    refuses(body(**options), param, why)


def refuses(data, param, why, bounds=Bounds(max_tokens=100)):
    with pytest.raises(RequestError, match=why) as raised:
        read_chat(data, bounds)
    error = raised.value
    assert (error.param, error.status) == (param, 400)
    assert str(error).startswith(f"{param}: ")
    assert len(str(error).splitlines()) == 1


@pytest.mark.needs("llguidance")
def test_a_schema_of_which_no_grammar_can_be_made_is_named():
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}
    refuses(body(response_format=form), "response_format.json_schema.schema", "cannot be followed")


# --- what is not for any reader -----------------------------------------------------------------------


def test_ten_thousand_parts_are_refused_before_anything_is_done_with_them():
    refuses(
        body(user(*[image()] * 10_000, text("?"))), "messages[0].content", "more than 64 images and videos"
    )
    refuses(body(user(*[text("?")] * 10_000)), "messages[0].content", "more than 2048 messages and texts")
    refuses(body(*[QUESTION, ANSWER] * 5_000, QUESTION), "messages[2048].content", "more than 2048")
    assert len(asked(*[QUESTION, ANSWER] * 500, QUESTION).rounds) == 501


def test_what_no_tokenizer_takes_is_refused():
    refuses(body(user(text("\ud800"))), "messages[0].content[0].text", "lone surrogate")
    refuses(body(**{"a\udc80": 1}), r"a\udc80", "its name is no text")
    refuses(body(temperature=float("nan")), "temperature", "no number that can be used")
    refuses(body(temperature=float("-inf")), "temperature", "no number that can be used")
    refuses(body(seed=10**400), "seed", "no number that can be used")
    refuses(body(stop={1}), "stop", "no value of JSON's but of set")
    deep = {"type": "object"}
    for _ in range(50_000):
        deep = {"not": deep}
    form = {"type": "json_schema", "json_schema": {"schema": deep}}
    with pytest.raises(RequestError, match="nested too deeply: at most 100 levels") as raised:
        read_chat(body(response_format=form))
    assert len(raised.value.param) < 100


def test_names_of_fields_are_told_in_short():
    with pytest.raises(RequestError, match="unknown field") as raised:
        read_chat(body(**{"x" * 10_000: 1}))
    assert len(str(raised.value)) < 200


BROKEN = [
    (b"", "at character 0"),
    (b"{", "at character 1"),
    (b"\xff{}", "not UTF-8"),
    (b'{"n": NaN}', "NaN is no number"),
    (b'{"n": -Infinity}', "Infinity is no number"),
    (b'{"n": ' + b"9" * 5000 + b"}", "limit"),
    (b"[" * 200_000, "nested too deeply"),
    (b"[]", "must be a JSON object"),
    (b"null", "must be a JSON object"),
]


@pytest.mark.parametrize(("data", "why"), BROKEN)
def test_bytes_that_are_no_json(data, why):
    with pytest.raises(RequestError, match=why) as raised:
        read_body(data)
    assert raised.value.status == 400
    assert len(str(raised.value).splitlines()) == 1


def test_a_body_of_bytes():
    assert read_body(json.dumps(body()).encode()) == body()


def test_texts_together_have_a_bound():
    messages = [{"role": "user", "content": [{"type": "text", "text": "a" * 60}]}]
    messages = [*messages, {"role": "assistant", "content": "b" * 30}, {"role": "user", "content": "c" * 10}]
    assert read_chat({"messages": messages}, Bounds(max_chars=100)).answers == ("b" * 30,)
    with pytest.raises(RequestError, match="over 99 characters") as raised:
        read_chat({"messages": messages}, Bounds(max_chars=99))
    assert raised.value.code == "context_length_exceeded"
