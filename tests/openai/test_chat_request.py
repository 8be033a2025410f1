"""What a chat completion's body asks, as clients write it."""

import json

import pytest

from illava_cli.config.presets import preset_names
from illava_cli.openai.asked import Bounds, Round
from illava_cli.openai.chat import IGNORED, NEUTRAL
from tests.openai.asking import PNG, asked, image, settings, text, user

# --- messages -----------------------------------------------------------------------------------------


def test_a_conversation():
    found = asked(
        {"role": "system", "content": "Brief."},
        {"role": "developer", "content": [text("No "), text("lists.")]},
        user(image(), text("What?")),
        {"role": "assistant", "content": "A cat.", "refusal": None, "tool_calls": None, "annotations": []},
        {"role": "user", "content": "And "},
        user(text("here: "), image("https://host/b.jpg"), text("?")),
    )
    assert found.system == "Brief.\nNo lists."
    assert found.rounds == (
        Round("What?", (PNG,)),
        Round("And \nhere: <image>?", ("https://host/b.jpg",)),
    )
    assert (found.answers, found.model) == (("A cat.",), "tiny")


def test_what_is_left_out_is_the_servers():
    found = asked()
    assert (found.system, found.settings, found.keep, found.method) == (None, {}, None, None)
    assert (found.n, found.stream, found.include_usage, found.merge_map) == (1, False, False, False)
    nothing = dict.fromkeys(
        ("temperature", "tools", "stop", "n", "response_format", "stream_options", "keep")
    )
    assert asked(**nothing) == found


def test_answers_may_come_back_in_parts():
    back = {
        "role": "assistant",
        "content": [{"type": "output_text", "text": "A", "annotations": []}, text("B")],
    }
    assert asked(user(text("?")), back, user(text("!"))).answers == ("AB",)


def test_markers_of_llava_place_media_only_where_there_are_any():
    assert asked(user(image(), text("Is <image> red?"))).rounds[0].prompt == "Is <image> red?"
    assert asked(user(text("Is <image> red?"))).rounds[0].prompt == r"Is \<image> red?"


MEDIA = [
    ({"type": "image_url", "image_url": PNG}, "images", PNG),
    ({"type": "image_url", "image_url": {"url": "HTTP://host/a"}}, "images", "HTTP://host/a"),
    ({"type": "input_image", "image_url": PNG, "detail": "high"}, "images", PNG),
    ({"type": "input_image", "data": "AAAA", "mime": "image/webp"}, "images", "data:image/webp;base64,AAAA"),
    ({"type": "input_image", "input_image": {"data": "AAAA", "format": "png"}}, "images", PNG),
    ({"type": "image", "image": "file:///a.png", "cache_control": {}}, "images", "file:///a.png"),
    ({"type": "image", "data": PNG}, "images", PNG),
    ({"type": "video_url", "video_url": {"url": "https://host/a.mp4"}}, "videos", "https://host/a.mp4"),
    ({"type": "input_video", "video_url": "https://host/a.mp4"}, "videos", "https://host/a.mp4"),
    ({"type": "input_video", "input_video": {"data": "AAAA"}}, "videos", "data:video/mp4;base64,AAAA"),
    ({"type": "video", "video": "data:video/mp4;base64,AAAA"}, "videos", "data:video/mp4;base64,AAAA"),
    ({"type": "video", "data": "AA", "mime_type": "video/webm"}, "videos", "data:video/webm;base64,AA"),
    (
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,AA,BB"}},
        "videos",
        "data:video/jpeg;base64,AA,BB",
    ),
]


@pytest.mark.parametrize(("part", "kind", "source"), MEDIA)
def test_media_as_the_clients_of_several_servers_write_them(part, kind, source):
    (found,) = asked(user(part, {"type": "input_text", "text": "?"})).rounds
    assert getattr(found, kind) == (source,)
    assert len(found.images) + len(found.videos) == 1


def test_low_detail_is_one_tile():
    low, high = image(detail="low"), image(detail="high")
    found = asked(user(low, low, text("?")))
    assert (found.settings, found.low_detail) == ({"media": {"max_tiles": 1}}, True)
    assert asked(user(low, text("?")), max_tiles=4).settings == {"media": {"max_tiles": 1}}
    for other in (high, image(), image(detail="auto")):
        found = asked(user(low, other, text("?")))
        assert (found.settings, found.low_detail) == ({}, False)


# --- options ------------------------------------------------------------------------------------------

DECODING = {
    "max_tokens": 7,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "seed": 3,
    "stop": ["a", "b"],
    "stop_token_ids": [1, 2],
    "ignore_eos": True,
    "presence_penalty": -1.0,
    "frequency_penalty": 1.5,
    "repetition_penalty": 1.1,
}


def test_the_options_of_the_decoding():
    assert settings(**DECODING) == {"generation": DECODING}
    assert settings(stop="x", logit_bias={"50": -100}, top_k=-1) == {
        "generation": {"stop": ["x"], "logit_bias": {50: -100.0}, "top_k": 0}
    }
    assert settings(max_tokens=7, max_completion_tokens=9) == {"generation": {"max_tokens": 9}}
    assert settings(logprobs=True, top_logprobs=5) == {"generation": {"logprobs": 5}}
    assert settings(logprobs=True) == {"generation": {"logprobs": 0}}
    assert settings(logprobs=False, top_logprobs=0) == {}
    for wanted in (True, False):
        thinking = {"generation": {"thinking": wanted}}
        assert settings(chat_template_kwargs={"enable_thinking": wanted}) == thinking
    assert settings(chat_template_kwargs={"enable_thinking": None}) == {}


def test_a_request_that_samples_without_a_seed_gets_its_own():
    seeds = {settings(temperature=1)["generation"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert "seed" not in settings(temperature=0)["generation"]
    assert settings(temperature=1, seed=0)["generation"]["seed"] == 0
    warm, batch = Bounds(temperature=0.7), Bounds(temperature=None)
    assert "seed" in asked(bounds=warm).settings["generation"]
    assert asked(bounds=warm, temperature=0).settings == {"generation": {"temperature": 0.0}}
    assert asked(bounds=batch, temperature=1).settings == {"generation": {"temperature": 1.0}}


def test_forms_of_an_answer():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert settings(response_format=wanted) == {"generation": {"json_schema": json.dumps(schema)}}
    loose = settings(response_format={"type": "json_object"})
    assert loose == {"generation": {"json_schema": '{"type": "object"}'}}
    assert settings(response_format={"type": "text"}) == {}


def test_how_it_is_answered():
    found = asked(
        n=2, stream=True, stream_options={"include_usage": True, "include_obfuscation": False}, merge_map=True
    )
    assert (found.n, found.stream, found.include_usage, found.merge_map) == (2, True, True, True)


OURS = {
    "preset": "off",
    "keep": 0.25,
    "method": "prune",
    "num_frames": 8,
    "max_tiles": 2,
    "min_pixels": 3136,
    "max_pixels": 100352,
    "video_budget": 900,
}


@pytest.mark.parametrize("where", ["body", "mm_processor_kwargs"])
def test_our_own_options(where):
    found = asked(**(OURS if where == "body" else {where: OURS}))
    assert (found.keep, found.method) == (0.25, "prune")
    media = {"num_frames": 8, "max_tiles": 2, "min_pixels": 3136, "max_pixels": 100352, "video_budget": 900}
    assert found.settings == {"preset": "off", "media": media}


def test_media_options_of_the_clients_of_vllm():
    assert settings(media_io_kwargs={"video": {"num_frames": 8, "fps": -1}}) == {"media": {"num_frames": 8}}
    assert settings(media_io_kwargs={"video": {"num_frames": -1}, "image": {}}) == {}
    both = settings(media_io_kwargs={"video": {"num_frames": 8, "fps": 2}}, mm_processor_kwargs={"fps": 2.0})
    assert both == {"media": {"fps": 2.0, "max_frames": 8}}
    assert settings(fps=2, start=1, end=3.5) == {
        "media": {"fps": 2.0, "start": 1.0, "end": 3.5, "max_frames": Bounds().max_frames}
    }
    assert asked(bounds=Bounds(max_frames=16), fps=2).settings["media"]["max_frames"] == 16


def test_what_is_another_servers_affair_is_let_pass():
    several = {name: values[0] for name, values in NEUTRAL.items() if values}
    assert asked(**several, **dict.fromkeys(IGNORED, "x")) == asked()


def test_all_presets_may_be_named():
    assert {settings(preset=name)["preset"] for name in preset_names()} == set(preset_names())


def test_a_batch_may_name_files():
    assert asked(user(image("a.jpg"), text("?")), bounds=Bounds(paths=True)).rounds[0].images == ("a.jpg",)
