"""A conversation goes on from its cache, or is read again; its answers are those of a chat either way."""

from __future__ import annotations

import pytest

from tests.serve.asking_both import CLIP, QUESTIONS, SHAPES, TALL, Question, asked
from tests.serve.real_server import serving

pytest.importorskip("openai", reason="needs openai: pip install openai")

TURNS = (
    Question("What shape is the red one?", (SHAPES,)),
    Question("How many shapes are there?"),
    Question("Which way does the circle move?", (TALL,), (CLIP,)),
)


@pytest.fixture(scope="module")
def chat(tiny_session):
    """The answers of a chat in this process."""
    chat = tiny_session.chat()
    return [chat.ask(turn.text, *turn.media) for turn in TURNS]


@pytest.fixture(scope="module")
def forgetful():
    """A server that keeps no conversation."""
    with serving("--conversation-mb", "0") as server:
        yield server


def turn(server, number, answers, turns=TURNS, **fields):
    """A conversation's turn, and the answers before it."""
    body = asked(*turns[: number + 1], answers=tuple(answers[:number]), **fields)
    return server.client().chat.completions.create(**body)


def text(answer):
    return answer.choices[0].message.content


def test_each_turn_goes_on_from_the_cache(real, chat):
    texts = [one.text for one in chat]
    for number in range(len(TURNS)):
        before = real.figures()['conversations_total{found="yes"}'] if number else 0
        answer = turn(real, number, texts)
        assert text(answer) == texts[number]
        cached = answer.usage.prompt_tokens_details.cached_tokens
        assert cached == chat[number].usage.cached_tokens
        assert answer.usage.prompt_tokens == cached + chat[number].usage.prompt_tokens
        if number:
            assert cached > 0
            assert real.figures()['conversations_total{found="yes"}'] == before + 1


def test_a_turn_that_is_asked_again_forgets_what_came_after_it(real, chat):
    texts = [one.text for one in chat]
    for number in (0, 1, 2):
        turn(real, number, texts)
    again = turn(real, 1, texts)
    assert text(again) == texts[1]
    assert again.usage.prompt_tokens_details.cached_tokens == chat[1].usage.cached_tokens
    onwards = turn(real, 2, texts)
    assert text(onwards) == texts[2]
    assert onwards.usage.prompt_tokens_details.cached_tokens == chat[2].usage.cached_tokens


def test_a_branch_leaves_the_other_questions_out(real, chat, tiny_session):
    other = Question("What colour is the square?")
    own = tiny_session.chat()
    own.ask(TURNS[0].text, *TURNS[0].media)
    expected = own.ask(other.text)
    texts = [one.text for one in chat]
    for number in (0, 1):
        turn(real, number, texts)
    branch = turn(real, 1, texts, (TURNS[0], other))
    assert text(branch) == expected.text
    assert branch.usage.prompt_tokens_details.cached_tokens == expected.usage.cached_tokens > 0


def test_what_another_one_said_is_no_ones_cache(real, chat):
    texts = [one.text for one in chat]
    turn(real, 0, texts)
    body = asked(*TURNS[:2], answers=(texts[0],))
    other = real.client(key="another").chat.completions.create(**body)
    assert text(other) == texts[1]
    assert other.usage.prompt_tokens_details.cached_tokens == 0


def test_a_conversation_that_is_not_kept_is_read_again_to_the_same_answers(forgetful, chat):
    texts = [one.text for one in chat]
    for number in range(len(TURNS)):
        answer = turn(forgetful, number, texts)
        assert text(answer) == texts[number]
        assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert forgetful.figures()["conversations_kept"] == 0


@pytest.mark.parametrize("end", ["stopped by a text", "cut off"])
def test_a_turn_after_an_answer_that_was_cut_is_read_again(real, tiny_session, end, long_answer):
    settings = {"stop": ["left"]} if end == "stopped by a text" else {"max_tokens": 3}
    first = real.client().chat.completions.create(**asked(QUESTIONS["image"], **long_answer(20) | settings))
    second = asked(QUESTIONS["image"], TURNS[1], answers=(text(first),))
    answers = [
        text(real.client(key=key).chat.completions.create(**second)) for key in ("none", "none", "new")
    ]
    assert len(set(answers)) == 1


def test_two_at_once_from_one_turn_do_not_share_a_cache(real, chat, tiny_session):
    from concurrent.futures import ThreadPoolExecutor

    texts = [one.text for one in chat]
    turn(real, 0, texts)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: text(turn(real, 1, texts)), range(4)))
    assert answers == [texts[1]] * 4
    real.until_at_rest()
