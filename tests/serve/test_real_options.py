"""What a request may say of its own answer: each option does what the same setting of a session does."""

from __future__ import annotations

import json
import math

import pytest

from illava_cli.config import resolve
from illava_cli.engine.shares import share_settings
from tests.serve.asking_both import QUESTIONS, Question, asked

pytest.importorskip("openai", reason="needs openai: pip install openai")

IMAGE, VIDEO, WORDS = QUESTIONS["image"], QUESTIONS["video"], QUESTIONS["text"]


def answer(real, question, **fields):
    response = real.post(json=asked(question, **fields))
    assert response.status_code == 200, response.text
    return response.json()


def text(body, index=0):
    return body["choices"][index]["message"]["content"]


def refused(real, question, **fields):
    response = real.post(json=asked(question, **fields))
    assert response.status_code == 400, response.text
    return response.json()["error"]


def test_thoughts_of_a_model_that_has_none(real):
    assert "thinking" in refused(real, WORDS, chat_template_kwargs={"enable_thinking": True})["message"]
    quiet = answer(real, WORDS, chat_template_kwargs={"enable_thinking": False})
    assert text(quiet) == text(answer(real, WORDS))


@pytest.mark.parametrize("preset", ["off", "image"])
def test_a_preset(real, tiny_session, preset):
    config = resolve("tiny", settings=["model.device=cpu", f"preset={preset}"], environ={})
    expected = IMAGE.asked_of(tiny_session.under(config))
    body = answer(real, IMAGE, preset=preset)
    assert text(body) == expected.text
    assert body["usage"]["visual_tokens"]["llm_kept"] == expected.usage.visual.llm_kept
    assert body["illava"]["preset"] == preset


@pytest.mark.parametrize("keep", [1, 0.5, 0.2])
def test_a_share_of_the_tokens(real, keep):
    visual = answer(real, IMAGE, keep=keep)["usage"]["visual_tokens"]
    kept = (visual["llm_kept"] + visual["newlines_kept"]) / visual["unmerged"]
    assert kept == pytest.approx(keep, abs=0.08)


def test_a_method(real, tiny_session):
    family, own = tiny_session.family, tiny_session.reduction
    changes = share_settings(family, own, "bipartite", 0.5)
    config = resolve("tiny", settings=["model.device=cpu", "method=bipartite", *changes], environ={})
    expected = IMAGE.asked_of(tiny_session.under(config))
    body = answer(real, IMAGE, method="bipartite", keep=0.5)
    assert text(body) == expected.text
    assert body["usage"]["visual_tokens"]["llm_kept"] == expected.usage.visual.llm_kept


@pytest.mark.parametrize("where", ["num_frames", "media_io_kwargs", "mm_processor_kwargs"])
def test_frames_of_a_clip(real, tiny_session, where):
    fields = {
        "num_frames": {"num_frames": 4},
        "media_io_kwargs": {"media_io_kwargs": {"video": {"num_frames": 4}}},
        "mm_processor_kwargs": {"mm_processor_kwargs": {"num_frames": 4}},
    }[where]
    expected = VIDEO.asked_of(tiny_session.updated(["media.num_frames=4"]))
    body = answer(real, VIDEO, **fields)
    assert text(body) == expected.text
    assert body["usage"]["prompt_tokens"] == expected.usage.prompt_tokens


def test_frames_a_second(real, tiny_session):
    expected = VIDEO.asked_of(tiny_session.updated(["media.fps=2", "media.max_frames=256"]))
    body = answer(real, VIDEO, fps=2)
    assert (text(body), body["usage"]["prompt_tokens"]) == (expected.text, expected.usage.prompt_tokens)


def test_tiles_of_an_image(real, tiny_session):
    expected = IMAGE.asked_of(tiny_session.updated(["media.max_tiles=1"]))
    body = answer(real, IMAGE, max_tiles=1)
    assert (text(body), body["usage"]["prompt_tokens"]) == (expected.text, expected.usage.prompt_tokens)


def test_low_detail_is_one_tile(real, tiny_session):
    body = asked(IMAGE)
    body["messages"][0]["content"][0]["image_url"]["detail"] = "low"
    low = real.post(json=body).json()
    one = answer(real, IMAGE, max_tiles=1)
    assert low["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


def test_a_budget_for_a_clip(real):
    whole = answer(real, VIDEO)["usage"]["visual_tokens"]
    less = answer(real, VIDEO, video_budget=whole["llm_in"] // 2)["usage"]["visual_tokens"]
    assert 0 < less["llm_in"] <= whole["llm_in"] // 2 + less["newlines_in"]
    assert "video_budget" in refused(real, VIDEO, video_budget=1)["message"]


def test_several_answers_are_those_of_several_draws(real, tiny_session):
    settings = ["generation.temperature=0.9", "generation.seed=7"]
    expected = tiny_session.updated(settings).sample(IMAGE.text, *IMAGE.media, n=4)
    body = answer(real, IMAGE, n=4, temperature=0.9, seed=7)
    assert [text(body, index) for index in range(4)] == [one.text for one in expected]
    assert body["usage"]["completion_tokens"] == sum(one.usage.completion_tokens for one in expected)


def test_a_seed_gives_the_same_answer_again(real, long_answer):
    fields = long_answer(12) | {"temperature": 1.2, "seed": 11}
    assert text(answer(real, IMAGE, **fields)) == text(answer(real, IMAGE, **fields))


def test_a_stop_is_not_shown_whole_or_streamed(real, long_answer):
    fields = long_answer(24)
    whole = text(answer(real, IMAGE, **fields))
    stop = whole[len(whole) // 2 :][:4]
    cut = whole[: whole.index(stop)]
    body = answer(real, IMAGE, stop=[stop], **fields)
    assert (text(body), body["choices"][0]["finish_reason"]) == (cut, "stop")
    chunks = real.client().chat.completions.create(
        **asked(IMAGE), extra_body=fields | {"stop": stop}, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == cut


def test_a_length(real, long_answer):
    body = answer(real, WORDS, **long_answer(9))
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_are_of_each_token(real, long_answer, stream):
    fields = asked(IMAGE, **long_answer(6)) | {"logprobs": True, "top_logprobs": 3, "stream": stream}
    if stream:
        chunks = list(real.client().chat.completions.create(**fields))
        pieces = [
            chunk.choices[0].logprobs for chunk in chunks if chunk.choices and chunk.choices[0].logprobs
        ]
        tokens = [token.model_dump() for piece in pieces for token in piece.content]
    else:
        tokens = real.post(json=fields).json()["choices"][0]["logprobs"]["content"]
    assert len(tokens) == 6
    for token in tokens:
        assert len(token["top_logprobs"]) == 3
        # the model's own, to which the bias is not added
        assert token["logprob"] <= max(top["logprob"] for top in token["top_logprobs"]) <= 0
        assert math.fsum(math.exp(top["logprob"]) for top in token["top_logprobs"]) <= 1 + 1e-6


@pytest.mark.needs("llguidance", "jsonschema")
def test_an_answer_follows_its_schema(real):
    import jsonschema

    schema = {
        "type": "object",
        "properties": {"shape": {"enum": ["circle", "square"]}, "many": {"type": "boolean"}},
        "required": ["shape", "many"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema, "strict": True}}
    jsonschema.validate(json.loads(text(answer(real, IMAGE, response_format=form, max_tokens=64))), schema)
    given = {"type": "json_schema", "name": "seen", "schema": schema}
    response = real.client().responses.create(
        model="tiny", input=IMAGE.items, text={"format": given}, max_output_tokens=64
    )
    jsonschema.validate(json.loads(response.output_text), schema)


def test_a_merge_map_is_a_page_of_its_own(real):
    body = answer(real, IMAGE, merge_map=True)
    page = real.get(body["illava"]["merge_map"])
    assert page.status_code == 200
    assert "sandbox" in page.headers["content-security-policy"]
    assert real.get("/merge-maps/none").json()["error"]["type"] == "not_found_error"


def test_what_is_wrong_is_said_by_name(real):
    assert "presett" in refused(real, IMAGE, presett="off")["message"]
    assert "preset" in refused(real, IMAGE, presett="off")["message"]
    assert refused(real, IMAGE, keep=2)["param"] == "keep"
    assert refused(real, IMAGE, preset="off", method="fastv")["param"] == "method"
    assert refused(real, IMAGE, temperature=-1)["param"] == "temperature"
    assert refused(real, VIDEO, num_frames=100_000)["param"] == "num_frames"
    assert refused(real, WORDS, n=100)["param"] == "n"
    response = real.post(json=asked(WORDS) | {"model": "gpt-5"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("words", [6_000, 5_000_000])
def test_a_prompt_that_does_not_fit(real, words):
    error = refused(real, Question("word " * words))
    assert error["code"] == "context_length_exceeded"
    assert "--" not in error["message"]
