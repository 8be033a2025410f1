"""Where memory ends, a question is cancelled or a row fails: what the scheduler does with the others."""

import threading

import pytest
import torch

from illava_cli.engine import runner
from illava_cli.engine.scheduler import RECOVERY, Scheduler
from illava_cli.engine.session import Request
from illava_cli.errors import Cancelled, UsageError
from illava_cli.models.cache import MergeCache
from tests.conftest import picture


@pytest.fixture
def session(open_session):
    return open_session("qwen2_vl", "preset=off", "generation.max_tokens=6")


def turn_of(session, request, **options):
    return session.turn(session.prepare(request), **options)


def test_newcomers_that_do_not_fit_beside_the_others_wait_as_they_are(session, monkeypatch):
    """They are prefilled once, and what was shown of them is not shown again."""
    requests = [Request("Why?"), Request("What?", [picture(90, 60)])]
    first, second = (session.ask(r.prompt, r.images) for r in requests)
    prefills, shown = [], []
    prefill, join = type(session.runner).prefill, MergeCache.join

    def tight(self, other, chosen):
        if self.rows:
            raise torch.OutOfMemoryError
        join(self, other, chosen)

    monkeypatch.setattr(MergeCache, "join", tight)
    monkeypatch.setattr(
        type(session.runner), "prefill", lambda self, *a: prefills.append(a[0]) or prefill(self, *a)
    )
    scheduler = Scheduler(session.runner, 2)
    turns = [
        turn_of(session, requests[0]),
        turn_of(session, requests[1], on_text=lambda answer, text: shown.append(text)),
    ]
    with session.runner.alone():
        scheduler.add(turns[0])
        ended = scheduler.advance()
        scheduler.add(turns[1])
        ended += scheduler.run()
    assert [error for _, _, error in ended] == [None, None]
    answers = {turn: own[0] for turn, own, _ in ended}
    assert [tuple(answers[turn].tokens) for turn in turns] == [first.token_ids, second.token_ids]
    assert prefills == [[turn] for turn in turns]
    assert second.text.startswith("".join(shown))


def test_after_a_while_as_many_rows_as_before_are_tried(session, monkeypatch):
    session = session.updated(["max_tokens=2"])
    step, sizes, notes = type(session.runner).step, [], []
    limit = 1

    def tight(self, cache, answers):
        sizes.append(len(answers))
        if len(answers) > limit:
            raise torch.OutOfMemoryError
        return step(self, cache, answers)

    monkeypatch.setattr(type(session.runner), "step", tight)
    scheduler = Scheduler(session.runner, 4, on_note=notes.append)
    prepared = session.prepare(Request("Why?"))

    def asked(count):
        for _ in range(count):
            scheduler.add(session.turn(prepared))
        with session.runner.alone():
            assert [error for *_, error in scheduler.run()] == [None] * count

    asked(8)
    assert scheduler.rows == 1
    del sizes[:]
    asked(2 * RECOVERY)  # two are tried: in vain, and nothing more is said
    assert (scheduler.rows, max(sizes), len(notes)) == (1, 2, 2)
    limit = 4
    asked(4 * RECOVERY)
    assert scheduler.rows == 4
    asked(4)
    assert max(sizes) == 4


def test_what_is_cancelled_before_its_first_word_takes_no_pass(session, monkeypatch):
    cancel, passes = threading.Event(), []
    encode = type(session.runner).encode
    monkeypatch.setattr(
        type(session.runner), "encode", lambda self, turns: passes.append(turns) or encode(self, turns)
    )
    scheduler = Scheduler(session.runner, 2)
    turns = [turn_of(session, Request("Why?"), cancel=cancel) for _ in range(5)]
    for turn in turns:
        scheduler.add(turn)
    with session.runner.alone():
        ended = scheduler.advance()
        cancel.set()
        ended += scheduler.run()
    assert {turn for turn, *_ in ended} == set(turns)
    assert sum(isinstance(error, Cancelled) for *_, error in ended) == 3
    assert len(passes) == 1
    answers = session.ask_batch([{"prompt": "Why?", "id": str(n)} for n in range(3)], cancel=cancel)
    assert [(a.id, a.text, a.finish_reason, a.token_ids) for a in answers] == [
        (str(n), "", None, ()) for n in range(3)
    ]
    for ask in (session.ask, lambda *a, **k: session.sample(*a, **k, n=2)):
        with pytest.raises(Cancelled, match="before the first word"):
            ask("Why?", cancel=cancel)
    assert len(passes) == 1


def test_what_is_cancelled_while_its_media_are_encoded_goes_no_further(session, monkeypatch):
    cancel = threading.Event()
    encode = runner.encode
    monkeypatch.setattr(runner, "encode", lambda *a, **k: cancel.set() or encode(*a, **k))
    session.features.clear()
    with pytest.raises(Cancelled):
        session.ask("What?", [picture(90, 60)], cancel=cancel)


def test_a_constraint_that_fails_ends_its_own_row(session):
    size = len(session.family.unspoken)

    class Broken:
        def allowed(self):
            return torch.ones(size, dtype=torch.bool)

        def accept(self, token):
            raise RuntimeError("no such state")

    shown = []
    scheduler = Scheduler(session.runner, 2)
    turns = [
        turn_of(session, Request("Why?"), on_text=lambda answer, text: shown.append(text)),
        turn_of(session, Request("Why?"), constrain=Broken),
    ]
    for turn in turns:
        scheduler.add(turn)
    with session.runner.alone():
        ended = {turn: (answers, error) for turn, answers, error in scheduler.run()}
    assert str(ended[turns[1]][1]) == "no such state"
    expected = session.ask("Why?")
    assert tuple(ended[turns[0]][0][0].tokens) == expected.token_ids
    assert expected.text.startswith("".join(shown))
    assert scheduler.rows == 2


@pytest.mark.parametrize("count", [0, -1])
def test_no_rows_and_no_answers_are_refused(session, count):
    with pytest.raises(UsageError, match=f"{count} answers at a time"):
        session.ask_batch([{"prompt": "Why?"}], rows=count)
    with pytest.raises(UsageError, match=f"{count} answers at a time"):
        session.sample("Why?", n=count)
