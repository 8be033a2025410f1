"""A conversation whose rounds are given is the one that was had."""

import pytest
import torch

from illava_cli.engine.past import Past
from illava_cli.engine.request import Request
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES

ROUNDS = [
    ("What is it?", [picture(200, 150, 1)], []),
    ("And this?", [], [clip(4, 64, 64, 3)]),
    ("Sure?", [], []),
]


def given(session, past, rounds, answers, **options):
    """A turn that asks the last of `rounds`; those before have `answers`, of token ids."""
    earlier = ()
    for (prompt, images, videos), answer in zip(rounds, answers, strict=False):
        prepared = session.prepare(Request(prompt, images, videos))
        earlier = (*earlier, session.turn(prepared, past, earlier=earlier, given=answer))
    prompt, images, videos = rounds[-1]
    return session.turn(session.prepare(Request(prompt, images, videos)), past, earlier=earlier, **options)


@pytest.mark.parametrize(
    "name", ["llava grid, paper", "qwen, authors", "qwen3.5, paper", "internvl, original", "gemma4, paper"]
)
@pytest.mark.usefixtures("exact_in_float64")
@pytest.mark.parametrize("chunk", [None, 7])
def test_rounds_that_are_given_leave_what_they_left(name, chunk, open_session):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings, "generation.max_tokens=4", "model.dtype=float64")
    chat, answers = session.chat(), []
    for prompt, images, videos in ROUNDS:
        answers.append(chat.ask(prompt, images, videos, logits=True))
    session.passes.scheduler.chunk = chunk
    past = Past(session.runner.new_cache())
    turn = given(session, past, ROUNDS, [list(one.token_ids) for one in answers[:2]], logits=True)
    (found,) = session.passes.answer(turn)
    session.passes.scheduler.chunk = None
    assert tuple(found.tokens) == answers[2].token_ids
    assert torch.allclose(found.logits, answers[2].logits, atol=1e-9)
    assert past.rounds == 2
    assert past.cache.depths == chat.past.cache.depths


def test_a_conversation_goes_back_and_on(open_session):
    session = open_session("qwen2_vl", "preset=off", "generation.max_tokens=4")
    chat = session.chat()
    first = [chat.ask(*one) for one in ROUNDS]
    for rounds in (2, 1, 0):
        chat.past.back(rounds)
        again = [chat.ask(*one) for one in ROUNDS[rounds:]]
        assert [one.token_ids for one in again] == [one.token_ids for one in first[rounds:]]


def test_several_answers_continue_one_conversation(open_session):
    session = open_session("qwen2_vl", "preset=off", "generation.max_tokens=4", "generation.temperature=1.0")
    chat = session.chat()
    chat.ask(*ROUNDS[0])
    before = chat.past.cache.depths
    turn = session.turn(session.prepare(Request("Sure?")), chat.past, answers=3)
    answers = session.passes.answer(turn)
    assert [answer.stream for answer in answers] == [0, 1, 2]
    chat.past.back(1)
    assert chat.past.cache.depths == before
    alone = chat.ask("Sure?")
    assert tuple(answers[0].tokens) == alone.token_ids
    assert len({tuple(answer.tokens) for answer in answers}) > 1
