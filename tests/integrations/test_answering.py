"""Batches answer as single questions do, in order, each under its task's own options."""

from pathlib import Path

import pytest

from illava_cli.errors import ContextError, MediaError
from illava_cli.integrations.lmms.answering import Question, answer_all
from tests.conftest import clip, picture

CLIP = str(Path(__file__).parents[2] / "illava_cli" / "assets" / "shapes.mp4")
SHORT, LONG = {"max_tokens": 2, "stop": []}, {"max_tokens": 6, "stop": []}
SAMPLED = {"max_tokens": 6, "temperature": 1.0, "stop": []}


def question(id, prompt, *media, options=LONG):
    content = [*media, {"type": "text", "text": prompt}]
    return Question(id, lambda: [{"role": "user", "content": content}], options)


def shown(seed):
    return {"type": "image", "url": picture(84, 84, seed)}


@pytest.fixture
def session(open_session):
    return open_session("llava_onevision", "preset=off", "generation.seed=1", "model.dtype=float64")


def test_batches_answer_as_single_questions_do(session):
    questions = [
        question("a", "What?", shown(1)),
        question("b", "And what is this here?", shown(2), options=SHORT),
        question("c", "Then?", {"type": "video", "url": clip(3, 60, 60)}),
        question("d", "No picture at all?"),
        question("e", "Which of the two?", shown(4), shown(5), options=SHORT),
    ]
    before, counted = session.config, []
    answers = answer_all(session, questions, 2, counted.append)
    assert [answer.id for answer in answers] == list("abcde")
    alone = [
        session.under(
            before.model_copy(update={"generation": before.generation.model_copy(update=q.generation)})
        )
        for q in questions
    ]
    singles = [
        alone[0].ask("What?", [picture(84, 84, 1)]),
        alone[1].ask("And what is this here?", [picture(84, 84, 2)]),
        alone[2].ask("Then?", videos=[clip(3, 60, 60)]),
        alone[3].ask("No picture at all?"),
        alone[4].ask("Which of the two?", [picture(84, 84, 4), picture(84, 84, 5)]),
    ]
    assert [answer.token_ids for answer in answers] == [single.token_ids for single in singles]
    assert sum(counted) == 5
    assert session.config is before


def test_until_ends_the_answer(session):
    (whole,) = answer_all(session, [question("a", "What?", shown(1))], 1)
    stop = whole.text[2]
    (cut,) = answer_all(session, [question("a", "What?", shown(1), options=LONG | {"stop": [stop]})], 1)
    assert cut.text == whole.text.split(stop)[0]


def test_a_sampled_question_that_is_repeated_is_answered_anew(session):
    questions = [question("a", "What?", shown(1), options=SAMPLED)] * 3
    first = [answer.token_ids for answer in answer_all(session, questions, 1)]
    assert len(set(first)) == 3
    assert [answer.token_ids for answer in answer_all(session, questions, 1)] == first


def test_a_video_is_cut_where_the_task_says(session):
    frames = {"type": "video", "url": CLIP}
    questions = [
        question("a", "What?", frames | {"end_time": 1.0}, options=SHORT),
        question("b", "What?", frames, options=SHORT),
    ]
    first, second = (answer.media[0].frames for answer in answer_all(session, questions, 2))
    assert max(first) < max(second)


def test_a_broken_picture_ends_the_run_under_its_name(session, tmp_path):
    broken = {"type": "image", "url": str(tmp_path / "missing.png")}
    questions = [question("task 0", "What?", shown(1)), question("task 1", "What?", broken)]
    with pytest.raises(MediaError, match=r"^task 1: .*missing\.png: no such file"):
        answer_all(session, questions, 2)


def test_or_costs_one_answer_where_that_is_wanted(session, tmp_path):
    broken = {"type": "image", "url": str(tmp_path / "missing.png")}
    questions = [
        question("a", "What?", shown(1), options=SHORT),
        question("b", "What?", broken, options=SHORT),
        question("c", "What?", {"type": "audio", "url": "a.wav"}, options=SHORT),
        question("d", "Too long? " * 20000, options=SHORT),
    ]
    failed = []
    answers = answer_all(session, questions, 4, failed=lambda id, error: failed.append((id, type(error))))
    assert [answer and answer.id for answer in answers] == ["a", None, None, None]
    assert {id for id, _ in failed} == {"b", "c", "d"}
    assert ("d", ContextError) in failed
