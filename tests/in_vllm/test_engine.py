"""What vLLM does to requests changes no answer: batches, caches, chunks, preemption, wishes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from vllm import SamplingParams

from illava_cli.config.settings import Config
from illava_cli.engine.reducing import reducing
from illava_cli.engine.request import Request
from illava_cli.vllm.launch import engine_settings
from tests.conftest import picture
from tests.in_vllm.asking import IMAGE, TWO, VIDEO, Question, answers, illavas, request, same
from tests.in_vllm.test_logprobs import merging

FAMILIES = ("llava_onevision", "qwen2_vl", "qwen3_vl")
MIXED = [
    question
    for number in range(5)
    for question in (
        Question(f"Which {number}?", (picture(84 + 14 * number, 84, number),)),
        Question(f"How many {number}?", TWO.images[: 1 + number % 2]),
        Question(f"What moves {number}?", (), VIDEO.videos),
    )
] + [Question("Hello")]


@pytest.mark.parametrize("family", FAMILIES)
def test_sixteen_at_once_are_as_alone(engines, family):
    settings = merging(family)
    engine, session = (
        engines.of(family, settings, enable_prefix_caching=False),
        engines.session(family, settings),
    )
    assert len(MIXED) == 16
    together = answers(engine, session, MIXED)
    for question, own in zip(MIXED, together, strict=True):
        (alone,) = answers(engine, session, [question])
        same(own, alone)
        same(own, illavas(session, question))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_that_is_known_is_not_computed_again(engines, family):
    settings = merging(family)
    engine, session = (
        engines.of(family, settings, enable_prefix_caching=True),
        engines.session(family, settings),
    )
    for question in (IMAGE, TWO, VIDEO):
        long = Question(question.prompt * 60, question.images, question.videos)
        first, again = (answers(engine, session, [long])[0] for _ in range(2))
        assert first.cached == 0 < again.cached
        same(again, first)
        same(again, illavas(session, long))


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_in_chunks(engines, family):
    """Of so few tokens that media are split."""
    settings = merging(family)
    engine = engines.of(
        family, settings, enable_prefix_caching=False, max_num_batched_tokens=16, max_num_seqs=4
    )
    session = engines.session(family, settings)
    for question in (TWO, VIDEO):
        (own,) = answers(engine, session, [question])
        assert own.length > 16
        same(own, illavas(session, question))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_that_had_to_wait_again(engines, family, monkeypatch):
    """The cache holds one and a half of them: one is preempted, and computed anew."""
    settings = merging(family)
    engine = engines.of(
        family,
        settings,
        enable_prefix_caching=False,
        num_gpu_blocks_override=6,
        max_num_seqs=4,
        max_model_len=256,
    )
    session = engines.session(family, settings)
    block = engine.llm_engine.vllm_config.cache_config.block_size
    (short,) = answers(engine, session, [Question("0", TWO.images)])
    # a prompt that nearly fills its block: all have one, and none gets its second
    words = "".join(" a" for _ in range(block - short.length - 2))
    asked = [Question(f"{number}{words}", TWO.images) for number in range(4)]
    scheduler = engine.llm_engine.engine_core.engine_core.scheduler
    preempt, preempted = scheduler._preempt_request, []

    def counted(*request, **how):
        preempted.append(request)
        return preempt(*request, **how)

    monkeypatch.setattr(scheduler, "_preempt_request", counted)
    for question, own in zip(asked, answers(engine, session, asked), strict=True):
        same(own, illavas(session, question))
    assert preempted


def test_each_request_has_its_wish(engines):
    """Of one picture, asked at once and again: each is reduced as it says, and no cache mixes them up."""
    family, off = "llava_onevision", {"preset": "off"}
    engine, session = engines.of(family, off), engines.session(family, off)
    wishes = {
        "": off,
        '{"keep": 0.5}': {"preset": "off", **sharing(session, 0.5, "illava")},
        '{"keep": 0.25, "method": "bipartite"}': {"preset": "off", **sharing(session, 0.25, "bipartite")},
        '{"max_tiles": 1}': {"preset": "off", "max_tiles": 1},
    }
    asked = [json.loads(wish or "{}") for wish in wishes]
    for _ in range(2):
        said = answers(engine, session, [IMAGE] * len(asked), asked)
        assert len({own.length for own in said}) == len(wishes)
        for own, settings in zip(said, wishes.values(), strict=True):
            same(own, illavas(engines.session(family, settings), IMAGE))


def sharing(session, keep, method):
    """The settings that a share comes to, with what merges in the decoder kept before it."""
    config = reducing(session.family, session.config, None, keep, method)
    data = config.model_dump(exclude_unset=True, exclude={"model", "generation", "media", "preset", "method"})
    for kind in ("image", "video"):
        stage = data["llm"][kind] if "image" in data["llm"] else data["llm"]
        shares = stage["keep"] if isinstance(stage["keep"], list) else [stage["keep"]] * len(stage["layers"])
        data.setdefault("input", {})[kind] = {"method": method, "keep": math.prod(shares)}
    for stage in (data["vision"], data["vision"].get("image"), data["vision"].get("video")):
        if stage and "layers" in stage:
            stage["method"] = method
    return data | {"llm": None, "layout": "faithful"}


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_a_document_is_taken_as_one(engines, family):
    """By preset auto, which leaves out what neighbours predict, and merges nothing of it."""
    page = Image.new("RGB", (168, 168), "white")
    page.paste(picture(70, 30, 4), (20, 20))
    question, auto = Question("What does it say?", (page,)), {"preset": "documents"}
    engine, session = engines.of(family, auto), engines.session(family, auto)
    (own,) = answers(engine, session, [question])
    (whole,) = answers(engine, session, [question], [{"preset": "off"}])
    assert own.length < whole.length
    same(own, illavas(session, question))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_videos_times_are_known(engines, family):
    """Of frames that are two seconds apart: in the prompt's text or in positions, cached or not."""
    slow = Question("When?", (), VIDEO.videos, (("fps", 0.5), ("frames_indices", [0, 1, 2, 3, 4, 5])))
    session = engines.session(family, {"preset": "off"})
    engine = engines.of(family, {"preset": "off"})
    (timed,), (plain,) = (answers(engine, session, [one]) for one in (slow, VIDEO))
    assert timed.logprobs != plain.logprobs
    (again,) = answers(engine, session, [slow])
    same(again, timed)
    prepared = session.prepare(Request(slow.prompt, (), slow.videos), fresh=True)
    slots = {
        slot: replace(one, pixels=one.pixels.timed([0, 2, 4, 6, 8, 10]))
        for slot, one in prepared.slots.items()
    }
    (ours,) = session.ask_batch([replace(prepared, slots=slots)])
    tops = tuple(sorted((x["logprob"] for x in step["top"]), reverse=True) for step in ours.logprobs)
    np.testing.assert_allclose(timed.logprobs[0], tops[0], atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"video_pruning_rate": 0.0}, "video-pruning-rate"),
        ({"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}, "pipeline parallelism"),
        ({"compilation_config": {"cudagraph_mm_encoder": True}}, "cudagraph_mm_encoder"),
        ({"enable_lora": True, "enable_tower_connector_lora": True}, "LoRA on the tower"),
    ],
)
def test_what_would_be_wrong_is_refused_before_anything_starts(engines, arguments, why):
    with pytest.raises(Exception, match=why):
        engines.of("qwen2_vl", {"preset": "off"}, **arguments)


def test_a_prompt_whose_positions_end_is_refused(engines):
    """Tokens that stay keep theirs: behind a picture of a few tokens text stands as far as behind all."""
    family = "llava_onevision"
    settings = {"preset": "off", "layout": "faithful", "input": {"method": "illava", "keep": 0.05}}
    config = Config.model_validate({"model": {"id": engines.checkpoint(family)}, **settings})
    overrides = engine_settings(config)["hf_overrides"]
    overrides["text_config"]["max_position_embeddings"] = 64
    engine = engines.of(family, settings, hf_overrides=overrides, max_model_len=64)
    session = engines.session(family, settings)
    longer = Question(" ".join(["Hello"] * 8), IMAGE.images)
    for question in (IMAGE, longer, IMAGE):  # known to vLLM's caches or not
        with pytest.raises(ValueError, match="positions go to"):
            answers(engine, session, [question])
    answers(engine, session, [Question("Hello")])


def test_a_medium_that_is_known_counts_as_before(engines):
    """A prompt is too long by what a picture, which vLLM's caches have, takes up beyond its tokens."""
    family, room = "llava_onevision", 110
    settings = {"preset": "off", "layout": "faithful", "input": {"method": "illava", "keep": 0.05}}
    config = Config.model_validate({"model": {"id": engines.checkpoint(family)}, **settings})
    overrides = engine_settings(config)["hf_overrides"]
    overrides["text_config"]["max_position_embeddings"] = room
    engine = engines.of(family, settings, hf_overrides=overrides, max_model_len=room)
    session = engines.session(family, settings)
    (said,) = answers(engine, session, [IMAGE])
    assert said.length < room / 2
    with pytest.raises(ValueError, match="positions go to"):
        answers(engine, session, [Question(IMAGE.prompt + " word" * 10, IMAGE.images)])
    same(answers(engine, session, [IMAGE])[0], said)


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"keep": 1.5}, "keep"),
        ({"keep": 0}, "keep"),
        ({"preset": "no such"}, "preset"),
        ({"method": "no such"}, "method"),
        ({"layers": [1]}, "there is no layers"),
        ({"fps": 2}, "media_io_kwargs"),
        ({"preset": "auto", "method": "prumerge"}, "share"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_in_a_line(engines, wish, why):
    family = "llava_onevision"
    engine, session = engines.of(family, {"preset": "off"}), engines.session(family, {"preset": "off"})
    with pytest.raises(ValueError, match=why) as error:
        answers(engine, session, [IMAGE], [wish])
    assert "\n" not in str(error.value)
    same(answers(engine, session, [IMAGE])[0], illavas(session, IMAGE))  # it goes on


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "qwen3_vl"])
def test_text_that_says_what_stands_for_a_picture_is_refused(engines, family):
    """On three axes it would shift the positions of the picture behind it."""
    off = {"preset": "off"}
    engine, session = engines.of(family, off), engines.session(family, off)
    marker = session.family.tokenizer.convert_ids_to_tokens(session.family.placeholder_ids["image"])
    asked = request(session, IMAGE)
    asked["prompt"] = asked["prompt"].replace("What", f"{marker} What")
    assert asked["prompt"].count(marker) == 2
    with pytest.raises(ValueError, match="which stands for a picture or a clip: leave it out"):
        engine.generate([asked], SamplingParams(max_tokens=1), use_tqdm=False)
    same(answers(engine, session, [IMAGE])[0], illavas(session, IMAGE))  # it goes on


@pytest.mark.needs("two cores")
@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl"])
def test_tensors_split_over_two_processes(engines, family):
    settings = merging(family)
    engine = engines.of(family, settings, tensor_parallel_size=2, distributed_executor_backend="mp")
    session = engines.session(family, settings)
    for question, own in zip(MIXED[:6], answers(engine, session, MIXED[:6]), strict=True):
        same(own, illavas(session, question))
