"""OpenAI's batch files: what a line asks, what is refused, and the form of an answer."""

import base64

import pytest

from illava_cli.batch.openai import read_line, to_line
from illava_cli.config import Config
from illava_cli.engine.record import Generation, Usage, error_record
from illava_cli.errors import MediaError, UsageError
from illava_cli.media import read_image
from tests.media_files import write_jpeg


def line(*content, system=None, **body):
    messages = [{"role": "user", "content": list(content)}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {
        "custom_id": "one",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "messages": messages, **body},
    }


def text(value):
    return {"type": "text", "text": value}


def image(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def video(url):
    return {"type": "video_url", "video_url": {"url": url}}


def conversation():
    data = line(text("?"))
    messages = data["body"]["messages"]
    data["body"]["messages"] = [*messages, {"role": "assistant", "content": "!"}, *messages]
    return data


def test_a_line_is_an_item():
    data = line(
        image("a.jpg"),
        text("What?"),
        system="Brief.",
        max_completion_tokens=5,
        temperature=0.5,
        presence_penalty=1,
        logit_bias={"50": -100},
        n=1,
        user="me",
    )
    item = read_line(data, "b.jsonl, line 1", "folder")
    assert (item.id, item.prompt, item.images) == ("one", "What?", ("a.jpg",))
    assert item.settings["generation"] == {
        "max_tokens": 5,
        "temperature": 0.5,
        "presence_penalty": 1.0,
        "logit_bias": {"50": -100.0},
        "system": "Brief.",
    }
    assert item.config(Config(generation={"logit_bias": {7: 1}})).generation.logit_bias == {7: 1, 50: -100}
    assert item.sources == (["folder/a.jpg"], [])


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, '{"type": "object"}'),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"const": 1}}},
            '{"const": 1}',
        ),
    ],
)
def test_the_form_of_an_answer(form, schema):
    item = read_line(line(text("?"), response_format=form), "here", "")
    assert item.config(Config()).generation.json_schema == schema


def test_settings_of_media_may_stand_in_a_line():
    """As in a manifest's; of a low `detail` the model may know nothing, `max_tiles` is said by name."""
    data = line(image("a.jpg"), text("?"), max_tiles=3, fps=2, start=1, mm_processor_kwargs={"end": 4})
    assert read_line(data, "", "").settings["media"] == {"max_tiles": 3, "fps": 2.0, "start": 1.0, "end": 4.0}
    bounded = line(image("a.jpg"), text("?"), min_pixels=9, mm_processor_kwargs={"max_pixels": 10**8})
    assert read_line(bounded, "", "").settings["media"] == {"min_pixels": 9, "max_pixels": 10**8}
    both = line(video("b.mp4"), text("?"), media_io_kwargs={"video": {"num_frames": 8, "fps": 2}})
    assert read_line(both, "", "").config(Config()).media.max_frames == 8
    low = {"type": "image_url", "image_url": {"url": "a.jpg", "detail": "low"}}
    assert read_line(line(low, text("?")), "", "").settings.get("media", {}) == {}


def test_a_line_without_a_seed_has_the_runs():
    item = read_line(line(text("?"), temperature=1), "", "")
    assert item.config(Config(generation={"seed": 5})).generation.seed == 5


def test_media_stand_where_they_were():
    item = read_line(line(text("Is "), image("a"), text(" in "), video("b"), text("?")), "", "")
    assert item.prompt == "Is <image> in <video>?"
    assert (item.images, item.videos) == (("a",), ("b",))


def test_text_alone_may_be_asked():
    data = {"custom_id": "x", "body": {"messages": [{"role": "user", "content": "Hello?"}]}}
    assert read_line(data, "", "").prompt == "Hello?"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (line(text("?")) | {"custom_id": 3}, "custom_id"),
        (line(text("?")) | {"url": "/v1/embeddings"}, "only POST"),
        (line(text("?")) | {"method": "GET"}, "only POST"),
        (line(text("?")) | {"bodi": 1}, "did you mean 'body'"),
        ({"custom_id": "x"}, "list of messages"),
        (line(image("a.jpg")), "asks nothing"),
        (line(text("?"), n=2), r"body\.n is not supported"),
        (line(text("?"), max_token=2), "did you mean 'max_tokens'"),
        (line(text("?"), temperature=-1), "temperature"),
        (line(text("?"), frequency_penalty=3), "frequency_penalty"),
        (
            line(text("?"), response_format={"type": "xml"}),
            r"body\.response_format\.type: must be one of text",
        ),
        (
            line(text("?"), response_format={"type": "json_schema", "json_schema": {}}),
            r"json_schema\.schema: must be",
        ),
        (line(text("?"), {"type": "input_audio"}), "input_audio"),
        (line(text("?"), {"type": "image_url", "image_url": {}}), "has no url"),
        (
            {"custom_id": "x", "body": {"messages": [{"role": "assistant", "content": "Hi"}]}},
            r"body\.messages\[0\]\.role: a conversation begins",
        ),
        (conversation(), "single questions"),
        (line(text("?"), stream=True), "stream is not supported"),
        (line(text("?"), preset="off"), "preset is not supported"),
        (line(text("?"), mm_processor_kwargs={"keep": 0.5}), "keep is not supported"),
        (line(text("?"), video_budget=0), r"body\.video_budget: must be 1 or more"),
        (line(text("?"), num_frames=0), r"body\.num_frames: must be 1 or more"),
    ],
)
def test_what_is_not_done_is_refused(data, message):
    with pytest.raises(UsageError, match=f"here: .*{message}"):
        read_line(data, "here", "")


def test_data_urls(tmp_path):
    data = base64.b64encode(write_jpeg(tmp_path / "a.jpg").read_bytes()).decode()
    read = read_image(f"data:image/jpeg;base64,{data}")
    assert (read.source, read.width, read.height) == ("<data:image/jpeg;base64>", 64, 48)
    with pytest.raises(MediaError, match=r"<data:image/jpeg;base64>: is not valid base64"):
        read_image("data:image/jpeg;base64,####")
    with pytest.raises(MediaError, match="is no data URL"):
        read_image("data:image/jpeg")


def test_answers_have_the_form_of_openai():
    config = Config()
    answer = Generation("red", "stop", "tiny", "auto", 0, config.hash(), usage=Usage(10, 2), id="one")
    done = to_line(answer.record() | {"request_hash": "abc", "created": 5})
    assert (done["custom_id"], done["error"], done["response"]["status_code"]) == ("one", None, 200)
    body = done["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "red"
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 2, 12)
    assert (body["object"], body["created"], body["model"]) == ("chat.completion", 5, "tiny")
    failed = to_line(error_record(MediaError("broken"), id="two") | {"request_hash": "abc", "created": 5})
    assert failed["response"] is None
    assert failed["id"] != done["id"]
    assert failed["error"] == {"code": "MediaError", "message": "broken"}


@pytest.mark.needs("openai")
def test_log_probabilities_of_a_record():
    from openai.types.chat import ChatCompletion

    told = ({"token": "red", "logprob": -0.5, "top": [{"token": "red", "logprob": -0.5}]},)
    answer = Generation("red", "stop", "tiny", "auto", 0, "x", id="one", logprobs=told, usage=Usage(10, 2))
    item = read_line(line(text("?"), logprobs=True, top_logprobs=1), "", "")
    assert item.settings["generation"]["logprobs"] == 1
    body = to_line(answer.record() | {"request_hash": "abc", "created": 5})["response"]["body"]
    assert body["choices"][0]["logprobs"]["content"][0]["bytes"] == list(b"red")
    ChatCompletion.model_validate(body, strict=True)


def test_records_of_before_have_their_lines():
    """Without what came later: counts of the cache and of what merging saved."""
    record = Generation("red", "stop", "tiny", "auto", 0, "x", id="one", usage=Usage(10, 2)).record()
    del record["usage"]["visual"]["unmerged"]
    del record["usage"]["cached_tokens"]
    del record["memory"]["media_reused"]
    usage = to_line(record | {"request_hash": "abc", "created": 5})["response"]["body"]["usage"]
    assert usage["prompt_tokens"] == 10
    assert "saved" not in usage["visual_tokens"]
