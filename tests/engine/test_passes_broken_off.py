"""Passes that end badly, or whose driver leaves: nobody waits for ever, and nothing stays behind."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from illava_cli.engine.passes import Passes
from illava_cli.engine.request import Request
from illava_cli.errors import Cancelled, UsageError

PATIENCE_S = 60


@pytest.fixture
def session(open_session):
    found = open_session("qwen2_vl", "preset=off", "generation.max_tokens=4", fresh=True)
    yield found
    with found.runner.alone():  # nobody has kept it
        pass
    assert not found.passes._ends
    assert found.passes.scheduler.idle


class Told:
    """What a turn that was submitted came to."""

    def __init__(self):
        self.ended = threading.Event()
        self.answers = self.error = None

    def __call__(self, answers, error):
        self.answers, self.error = answers, error
        self.ended.set()


def turn_of(session, prompt="Why?", **options):
    return session.turn(session.prepare(Request(prompt)), **options)


def interrupted(function):
    """Calls it in a thread, as Ctrl-C breaks it off there."""
    with pytest.raises(KeyboardInterrupt):
        function()


def test_what_was_submitted_goes_on_when_all_who_wait_have_their_answers(session, monkeypatch):
    """Who drives leaves it to a thread that waits only where that one has no answer yet."""
    passes, told, both = session.passes, Told(), threading.Event()
    driving = threading.Event()
    passes.on_pass = lambda scheduler: (driving.set(), both.wait(PATIENCE_S))
    wait_for = passes._changed.wait_for
    # a thread that is slow to wake: who drove has gone before it has seen its answer
    monkeypatch.setattr(
        passes._changed, "wait_for", lambda true, *s: wait_for(lambda: true() and passes._driver is None, *s)
    )
    sooner, long = session.updated(["max_tokens=2"]), session.updated(["max_tokens=40"])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(passes.answer, turn_of(session))
        assert driving.wait(PATIENCE_S)
        second = pool.submit(passes.answer, turn_of(sooner))  # two passes later: ends with it
        while len(passes._ends) < 2:
            both.wait(0.002)
        passes.submit(turn_of(long), told)
        both.set()
        first.result(), second.result()
    assert told.ended.wait(PATIENCE_S)
    assert told.error is None


def test_who_shares_a_prefill_that_is_broken_off_is_answered(session, monkeypatch):
    expected = session.passes.answer(turn_of(session))[0].tokens
    prefill, together = session.runner.prefill, []

    def broken_off(turns, cache, chunk=None):
        if not together:
            together.extend(turns)
            raise KeyboardInterrupt
        return (yield from prefill(turns, cache, chunk))

    monkeypatch.setattr(session.runner, "prefill", broken_off)
    told, passes = Told(), session.passes
    other = turn_of(session)
    with passes._changed:  # both are there before the first pass
        passes._ends[other] = told
        passes._arrived.append(other)
    interrupted(lambda: passes.answer(turn_of(session)))
    assert len(together) == 2
    assert told.ended.wait(PATIENCE_S)
    assert told.answers[0].tokens == expected


@pytest.mark.parametrize("place", ["_leave", "_join", "_enter", "_step"])
def test_a_pass_that_is_broken_off_anywhere_leaves_nobody_waiting(session, monkeypatch, place):
    scheduler, passes, broken = session.passes.scheduler, session.passes, []
    whole = getattr(scheduler, place)

    def broken_off(*arguments):
        found = whole(*arguments)
        if not broken and (place != "_leave" or found):
            broken.append(place)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(scheduler, place, broken_off)
    told, other = Told(), turn_of(session)
    with passes._changed:
        passes._ends[other] = told
        passes._arrived.append(other)
    interrupted(lambda: passes.answer(turn_of(session)))
    assert told.ended.wait(PATIENCE_S)
    assert told.answers or isinstance(told.error, Cancelled)


def test_who_is_broken_off_while_a_batch_runs_leaves_that_one_alone(session, monkeypatch):
    runner = session.runner
    monkeypatch.setattr(runner, "graphs", object())  # whose batches share one cache
    runner._steps_cache.begin(1)  # another batch's row
    monkeypatch.setattr(runner, "begin", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    other = Passes(runner)
    interrupted(lambda: other.answer(turn_of(session)))
    assert runner._steps_cache.rows == 1
    monkeypatch.undo()
    runner._steps_cache.clear()
    while other._ends:
        threading.Event().wait(0.002)


def test_a_fault_ends_those_who_have_just_come_once(session, monkeypatch):
    passes, told, ended = session.passes, Told(), []

    def fault():
        passes._add(turn_of(session), told)
        raise ZeroDivisionError

    advance = passes.scheduler.advance
    monkeypatch.setattr(passes.scheduler, "advance", fault)
    with pytest.raises(ZeroDivisionError):
        session.ask("Why?")
    assert isinstance(told.error, ZeroDivisionError)
    monkeypatch.setattr(passes.scheduler, "advance", advance)
    assert session.ask("Why?").usage.completion_tokens
    assert not ended


def test_a_listener_that_fails_is_its_own_affair(session):
    def fails(answers, error):
        raise RuntimeError("the loop is closed")

    passes, told = session.passes, Told()
    others = [turn_of(session) for _ in range(3)]
    with passes._changed:
        for other, on_end in zip(others, (fails, fails, told), strict=True):
            passes._ends[other] = on_end
            passes._arrived.append(other)
    assert session.ask("Why?").usage.completion_tokens
    assert told.ended.wait(PATIENCE_S)
    assert told.error is None


def test_who_gives_up_leaves_the_callers_event_alone(session):
    cancel = threading.Event()

    def on_text(text):
        raise KeyboardInterrupt

    interrupted(lambda: session.ask("Why?", on_text=on_text, cancel=cancel))
    assert not cancel.is_set()
    assert session.ask("Why?", cancel=cancel).usage.completion_tokens


def test_a_stream_that_nobody_holds_ends(session):
    session = session.updated(["max_tokens=400"])

    async def main():
        stream = session.astream("Why?")
        await anext(stream)
        cancel = stream._flow.cancel
        del stream
        gc.collect()
        return cancel.is_set()

    assert asyncio.run(main())


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_that_is_refused_says_so_alone(session):
    errors = []

    def on_text(text):
        if not errors:
            with pytest.raises(UsageError, match="from within") as refused:
                session.stream("What?")
            errors.append(str(refused.value))
            del refused
            gc.collect()

    session.ask("Why?", on_text=on_text)
    assert errors


def test_nothing_stays_of_turns_that_were_broken_off(session, monkeypatch):
    passes = Passes(session.runner, tokens=10_000)
    told, others = Told(), [turn_of(session) for _ in range(2)]
    with passes._changed:
        for other in others:
            passes._ends[other] = told
            passes._arrived.append(other)
    advance, steps = passes.scheduler.advance, []

    def fault():
        steps.append(1)
        if len(steps) == 2:
            raise ZeroDivisionError
        return advance()

    monkeypatch.setattr(passes.scheduler, "advance", fault)
    with pytest.raises(ZeroDivisionError):
        passes.answer(turn_of(session))
    assert not passes._ends
    others.clear()
    told.error = other = None
    gc.collect()
    assert not len(passes.scheduler._sizes)
