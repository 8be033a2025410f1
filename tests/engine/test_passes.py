"""Threads and tasks that ask one model at once share its passes, and each gets its own answer."""

import asyncio
import itertools
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from illava_cli.engine.passes import Passes
from illava_cli.engine.request import Request
from illava_cli.errors import Cancelled, UsageError
from tests.conftest import picture

PROMPTS = ["Why?", "What is it?", "How many are there?", "Which one?"]


@pytest.fixture
def session(open_session):
    found = open_session("qwen2_vl", "preset=off", "generation.max_tokens=8", fresh=True)
    yield found
    assert found.passes.scheduler.idle
    with found.runner.alone():  # nobody has kept it
        pass


def all_there(passes, count):
    """Lets the first pass wait until so many have asked."""
    first = threading.Event()

    def wait(scheduler):
        while not first.is_set() and len(passes._ends) < count:
            first.wait(0.002)
        first.set()

    return wait


def test_threads_share_passes(session):
    expected = [session.ask(prompt, [picture(90, 60, n)]) for n, prompt in enumerate(PROMPTS)]
    rows = []
    gate = all_there(session.passes, len(PROMPTS))
    session.passes.on_pass = lambda scheduler: (gate(scheduler), rows.append(scheduler.stepped))
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        found = list(pool.map(lambda n: session.ask(PROMPTS[n], [picture(90, 60, n)]), range(len(PROMPTS))))
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert max(rows) >= len(PROMPTS) - 1


def test_conversations_of_threads_share_passes(session):
    alone = [session.chat() for _ in PROMPTS]
    expected = [
        [chat.ask("What?", [picture(90, 60, n)]).text, chat.ask("Sure?").text] for n, chat in enumerate(alone)
    ]
    together = [session.chat() for _ in PROMPTS]

    def talk(n):
        return [together[n].ask("What?", [picture(90, 60, n)]).text, together[n].ask("Sure?").text]

    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        assert list(pool.map(talk, range(len(PROMPTS)))) == expected
    assert [chat.past.cache.depths for chat in together] == [chat.past.cache.depths for chat in alone]


def test_a_stream_is_the_answer_in_pieces(session):
    whole = session.ask("Why?", [picture(90, 60)])
    stream = session.stream("Why?", [picture(90, 60)], id="one")
    assert stream.generation is None or stream.generation.text == whole.text
    assert "".join(stream) == whole.text
    assert (stream.generation.token_ids, stream.generation.id) == (whole.token_ids, "one")
    assert list(stream) == []


def stops_at(passes, few):
    """Lets the passes after `few` wait for the event that is returned."""
    gone, count = threading.Event(), itertools.count(1)
    passes.on_pass = lambda scheduler: next(count) != few or gone.wait(60)
    return gone


def test_who_closes_a_stream_ends_its_answer(session):
    session = session.updated(["max_tokens=400"])
    whole = session.ask("Why?").usage.completion_tokens
    gone = stops_at(session.passes, 20)
    with session.stream("Why?") as stream:
        assert next(stream)
    gone.set()
    assert session.ask("Why?").usage.completion_tokens == whole
    assert stream.generation.usage.completion_tokens <= 20 < whole
    assert list(stream) == []


def test_a_stream_says_why_there_is_no_answer(session):
    with pytest.raises(UsageError, match="the prompt has 1 <image>"):
        session.stream("What is <image>?")
    stream = session.stream("a" * session.context_length)
    with pytest.raises(Exception, match="the prompt has"):
        list(stream)


def test_tasks_share_passes(session):
    expected = [session.ask(prompt).text for prompt in PROMPTS]
    session.passes.on_pass = all_there(session.passes, len(PROMPTS))

    async def pieces(prompt):
        stream = session.astream(prompt)
        return "".join([piece async for piece in stream]), stream.generation.text

    async def both():
        streamed = asyncio.gather(*map(pieces, PROMPTS[:2]))
        asked = asyncio.gather(*map(session.aask, PROMPTS[2:]))
        return await streamed, await asked

    streamed, asked = asyncio.run(both())
    assert streamed == [(text, text) for text in expected[:2]]
    assert [one.text for one in asked] == expected[2:]


def test_a_task_that_is_cancelled_ends_its_answer(session):
    session = session.updated(["max_tokens=400"])
    whole = session.ask("Why?").usage.completion_tokens
    gone = stops_at(session.passes, 20)
    stream = session.astream("Why?")

    async def main():
        begun = asyncio.Event()

        async def listen():
            async for _ in stream:
                begun.set()

        task = asyncio.create_task(listen())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gone.set()
        return await session.aask("Why?")

    assert asyncio.run(main()).usage.completion_tokens == whole
    assert stream.generation.usage.completion_tokens <= 20 < whole


def test_others_go_on_when_the_one_who_drives_is_broken_off(session):
    expected = session.ask("What is it?").token_ids
    driving = threading.Event()

    def broken_off():
        def on_text(text):
            driving.set()
            all_there(session.passes, 2)(session.passes.scheduler)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            session.ask("Why?", on_text=on_text)

    def other():
        assert driving.wait(60)
        return session.ask("What is it?").token_ids

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(broken_off), pool.submit(other)
        first.result()
        assert second.result() == expected


def test_a_fault_of_ours_leaves_nobody_waiting(session, monkeypatch):
    advance = session.passes.scheduler.advance
    monkeypatch.setattr(session.passes.scheduler, "advance", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        session.ask("Why?")
    with pytest.raises(ZeroDivisionError):
        list(session.stream("Why?"))
    monkeypatch.setattr(session.passes.scheduler, "advance", advance)
    assert session.ask("Why?").usage.completion_tokens


def test_a_batch_waits_for_those_who_share_and_they_for_it(session):
    expected = [session.ask(prompt).token_ids for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        batches = [
            pool.submit(session.ask_batch, [{"prompt": prompt} for prompt in PROMPTS]) for _ in range(2)
        ]
        alone = [pool.submit(session.ask, prompt) for prompt in PROMPTS]
        assert [[one.token_ids for one in batch.result()] for batch in batches] == [expected] * 2
        assert [one.result().token_ids for one in alone] == expected


def test_who_waits_may_give_up(session):
    driving, given_up = threading.Event(), threading.Event()
    session.passes.on_pass = lambda scheduler: (driving.set(), given_up.wait(60))
    cancel = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(session.ask, "Why?")
        driving.wait(60)
        second = pool.submit(session.ask, "What is it?", cancel=cancel)
        cancel.set()
        given_up.set()
        with pytest.raises(Cancelled):
            second.result()
        assert first.result().usage.completion_tokens


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize(
    "family", ["llava_onevision", "llava_next", "qwen2_vl", "qwen3_5", "internvl", "gemma4"]
)
def test_the_size_of_a_turn_is_known_before_it_is_encoded(family, kind, open_session):
    if (family, kind) == ("llava_next", "video"):
        pytest.skip("takes images only")
    session = open_session(family, "generation.max_tokens=3")
    media = (
        {"images": [picture(200, 150)]}
        if kind == "image"
        else {"videos": [[picture(90, 60, n) for n in range(4)]]}
    )
    for other in (session, session.with_merging(False)):
        turn = other.turn(other.prepare(Request("What?", **media), fresh=True))
        size = session.runner.size(turn)
        assert size == other.ask("What?", **media).usage.prompt_tokens + 3


def test_newcomers_wait_until_there_is_room_for_their_tokens(session):
    size = session.runner.size(session.turn(session.prepare(Request("What?"))))
    expected = session.ask("What?").token_ids
    for tokens, most in ((2 * size, 2), (size - 1, 1), (None, 4)):
        passes, rows = Passes(session.runner, rows=4, tokens=tokens), []
        passes.on_pass = lambda scheduler, rows=rows: rows.append(scheduler.stepped)
        found = queue.SimpleQueue()
        turns = [session.turn(session.prepare(Request("What?"))) for _ in range(4)]
        for turn in turns:
            passes.submit(turn, lambda answers, error, found=found: found.put(answers))
        assert [tuple(found.get()[0].tokens) for _ in turns] == [expected] * 4
        assert max(rows) <= most
