"""A row of a batch is answered as it is alone, merging on."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from illava_cli.engine.session import Request
from illava_cli.errors import UsageError
from illava_cli.models.survivors import Survivors
from tests.conftest import IMAGES_ONLY, clip, picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32

ROWS = [
    Request("One.", [picture(200, 150, 1)]),
    Request("A much longer question, with no picture at all?"),
    Request("Which of the two?", [picture(120, 90, 5), picture(64, 140, 6)]),
    Request("And then?", videos=[clip(5, 96, 64, 1)]),
    Request("This <image> and <video>?", [picture(500, 480, 4)], [clip(3, 50, 80, 2)], system="Be brief."),
]


@pytest.mark.parametrize("name", SCHEDULES)
def test_batch_equals_single(name, open_session):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings)
    rows = [row for row in ROWS if not (family in IMAGES_ONLY and row.videos)]
    together = session.ask_batch(rows, logits=True)
    for row, answer in zip(rows, together, strict=True):
        alone = session.ask(row.prompt, row.images, row.videos, system=row.system, logits=True)
        torch.testing.assert_close(answer.logits, alone.logits, **FLOAT32)
        assert answer.token_ids == alone.token_ids
        assert answer.usage == alone.usage
        assert answer.text == alone.text


def test_the_tower_in_chunks_of_one_tile_changes_nothing(open_session):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings, fresh=True)
    whole = session.ask("What?", [picture(500, 480, 4)], logits=True)
    session.family.chunk_bytes = 1
    torch.testing.assert_close(
        session.ask("What?", [picture(500, 480, 4)], logits=True).logits, whole.logits, **FLOAT32
    )


@pytest.mark.parametrize("name", ["llava grid, paper", "llava faithful, original"])
def test_frames_are_pooled_chunk_by_chunk(name, open_session, monkeypatch):
    """What is kept of a video grows by what the decoder takes, not by what leaves the tower."""
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings, fresh=True)
    whole = session.ask("What?", videos=[clip(5, 96, 64, 1)], logits=True)
    session.features.clear()
    session.family.chunk_bytes = 1
    chunks = []
    join = Survivors.cat

    def cat(parts):
        chunks.extend(part.features.shape[:2] for part in parts)
        return join(parts)

    monkeypatch.setattr(Survivors, "cat", staticmethod(cat))
    answer = session.ask("What?", videos=[clip(5, 96, 64, 1)], logits=True)
    torch.testing.assert_close(answer.logits, whole.logits, **FLOAT32)
    assert [frames for frames, _ in chunks] == [1] * 5
    assert 5 * chunks[0][1] == answer.usage.visual.llm_in < answer.usage.visual.vision_kept


def test_sampling_follows_the_seed(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(
        family, *settings, "generation.temperature=1.0", "generation.max_tokens=12", fresh=True
    )
    state = torch.random.get_rng_state()
    first = session.ask("Why?").token_ids
    assert session.ask("Why?").token_ids == first
    session = session.updated(["seed=7"])
    assert session.ask("Why?").token_ids != first
    assert torch.equal(torch.random.get_rng_state(), state)
    session = session.updated(["temperature=0"])
    greedy = session.ask("Why?").token_ids
    session = session.updated(["seed=8"])
    assert session.ask("Why?").token_ids == greedy


def test_threads_do_not_disturb_one_another(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings)
    images = [picture(90, 60, seed) for seed in range(6)]
    expected = [session.ask("What?", [image], logits=True).logits for image in images]
    session.features.clear()
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(session.ask_batch, [{"prompt": "What?", "images": [i]}], logits=True) for i in images
        ]
        for job, logits in zip(jobs, expected, strict=True):
            torch.testing.assert_close(job.result()[0].logits, logits, **FLOAT32)


def test_a_question_within_on_text_is_refused(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings)
    for other in (session, session.asking(session.config), session.under(session.config)):
        with pytest.raises(UsageError, match="within on_text"):
            session.ask("What?", on_text=lambda text, other=other: other.ask("And?"))
        with pytest.raises(UsageError, match="within on_text"):  # also one that would be answered beside it
            session.ask("What?", on_text=lambda text, other=other: other.ask("And?", on_text=print))


def test_each_row_has_its_own_room(open_session):
    """A prompt that nearly fills the context does not shorten its neighbour's answer."""
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, "generation.max_tokens=30", "generation.temperature=1.0")
    long = "a" * (session.context_length - 40)
    tight, free = session.ask_batch([{"prompt": long}, {"prompt": "Hello?"}])
    assert tight.usage.prompt_tokens + tight.usage.completion_tokens <= session.context_length
    assert free.usage.completion_tokens == 30 or free.finish_reason == "stop"


def test_one_medium_needs_no_list(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings)
    image = picture(90, 60)
    listed = session.ask("What?", [image], logits=True).logits
    for alone in (image, np.asarray(image), (i for i in [image])):
        assert torch.equal(session.ask("What?", alone, logits=True).logits, listed)


def test_prepared_questions_are_answered_later(open_session):
    session = open_session("llava_onevision", "preset=off", "generation.max_tokens=3")
    prepared = session.prepare(Request("What?", [picture(100, 60, 3)], id="x"))
    (later,) = session.ask_batch([prepared])
    now = session.ask("What?", [picture(100, 60, 3)])
    assert (later.text, later.id, later.usage) == (now.text, "x", now.usage)


def test_a_question_that_was_prepared_for_another_reduction_is_refused(open_session):
    """Its features, made under this one's schedule, would be found again as the other's."""
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, fresh=True)
    prepared = session.prepare(Request("What?", [picture(90, 60)]))
    with pytest.raises(UsageError, match="prepared"):
        session.with_merging(False).ask_batch([prepared])
    assert session.updated(["max_tokens=1"]).ask_batch([prepared])[0].usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"prompt": "What?", "image": "a.jpg"}, "unknown field 'image'.*images"),
        ({"id": "x"}, "prompt is missing"),
    ],
)
def test_a_question_that_is_none_is_one_line(question, said, open_session):
    with pytest.raises(UsageError, match=said):
        open_session("qwen2_vl", "preset=off").ask_batch([question])
