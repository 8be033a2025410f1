"""What vLLM does to requests changes no answer: batches, caches, chunks, preemption, wishes."""

from __future__ import annotations

import pytest

from tests.conftest import picture
from tests.in_vllm.asking import IMAGE, TWO, VIDEO, Question, answers, illavas, same
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
def test_a_request_that_had_to_wait_again(engines, family):
    """The cache holds one and a half of them: one is preempted, and computed anew."""
    settings = merging(family)
    asked = [Question("word " * 60 + str(number), TWO.images) for number in range(4)]
    engine = engines.of(
        family,
        settings,
        enable_prefix_caching=False,
        num_gpu_blocks_override=5,
        max_num_seqs=4,
        max_model_len=320,
    )
    session = engines.session(family, settings)
    for question, own in zip(asked, answers(engine, session, asked), strict=True):
        same(own, illavas(session, question))


def test_each_request_has_its_wish(engines):
    """Of one picture, asked at once: each is reduced as it says, and no cache mixes them up."""
    family = "llava_onevision"
    engine, session = engines.of(family, {"preset": "off"}), engines.session(family, {"preset": "off"})
    wishes = [{}, {"keep": 0.5}, {"keep": 0.25, "method": "bipartite"}, {"max_tiles": 1}]
    for _ in range(2):
        said = answers(engine, session, [IMAGE] * len(wishes), wishes)
        assert len({own.length for own in said}) == len(wishes)
        same(said[0], illavas(session, IMAGE))


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


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_without_merging_it_is_vllms_own(engines, family):
    """On pictures that nobody has to resize."""
    question = Question("What is this?", (picture(84, 84, 1),))
    session = engines.session(family, {"preset": "off"})
    (own,) = answers(engines.of(family, {"preset": "off"}), session, [question])
    (stock,) = answers(engines.stock(family), session, [question])
    assert own.length == stock.length
    same(own, stock)


@pytest.mark.needs("two cores")
@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl"])
def test_tensors_split_over_two_processes(engines, family):
    settings = merging(family)
    engine = engines.of(family, settings, tensor_parallel_size=2, distributed_executor_backend="mp")
    session = engines.session(family, settings)
    for question, own in zip(MIXED[:6], answers(engine, session, MIXED[:6]), strict=True):
        same(own, illavas(session, question))
