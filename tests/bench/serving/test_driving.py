"""Loads on a server that counts who is there at once."""

from __future__ import annotations

import threading

import pytest

from illava_cli.bench.serving import driving
from illava_cli.bench.serving.driving import FOLLOW_UP, Window
from illava_cli.bench.serving.loads import Extent, Load, arrivals
from tests.serve.fake_server import Canned, as_a_model


class Crowd:
    """An answer that is held until so many were there at once; counts the most that ever were."""

    def __init__(self, together: int):
        self._barrier = threading.Barrier(together)
        self._met = threading.Event()
        self._lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, body):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if not self._met.is_set():  # later ones may be fewer: the load ends between two of them
            self._barrier.wait(60)
            self._met.set()
        with self._lock:
            self.now -= 1
        return as_a_model(body)


def test_so_many_clients_ask_at_once(server, asked):
    server.answer = crowd = Crowd(4)
    window = asked(Load("clients", 4), Extent(12, None, 4))
    assert crowd.most == 4  # the barrier opens for no fewer
    assert len(window.samples) == 12
    assert not [sample.error for sample in window.samples if sample.error]
    assert window.seconds > 0


def test_what_warms_up_is_not_counted(server, asked):
    window = asked(Load("clients", 1), Extent(5, None, 3))
    assert len(window.samples) == 5
    assert len(server.asked) == 8
    assert all(sample.due >= window.began for sample in window.samples)
    assert all(sample.last <= window.ended for sample in window.samples)


def test_without_a_warmup_the_first_counts(server, asked):
    window = asked(Load("clients", 1), Extent(3, None, 0))
    assert len(window.samples) == len(server.asked) == 3


def test_as_many_as_there_are_in_a_time(server, asked):
    window = asked(Load("clients", 2), Extent(None, 0.3, 2))
    assert window.samples
    # a warm-up of its own, one each before the window, and those that were under way at its end
    assert len(server.asked) >= len(window.samples) + 4


def test_requests_come_when_they_are_due_whether_others_are_done_or_not(server, asked):
    server.answer = crowd = Crowd(6)  # none is answered before all are there
    window = asked(Load("rate", 50.0), Extent(6, None, 0))
    assert crowd.most == 6
    due = sorted(sample.due - window.began for sample in window.samples)
    assert due == pytest.approx(arrivals(50.0, Extent(6, None, 0), 0))


def test_before_a_rate_there_is_a_warmup(server, asked):
    window = asked(Load("rate", 50.0), Extent(4, None, 2))
    assert len(window.samples) == 4
    assert len(server.asked) >= 6


def test_a_conversation_gives_answers_back(server, asked):
    server.answer = lambda body: Canned(("Yes",), finish="stop")
    window = asked(Load("clients", 1), Extent(6, None, 0), turns=3)
    assert [sample.turn for sample in window.samples] == [0, 1, 2, 0, 1, 2]
    last = server.bodies[2]["messages"]
    assert [(one["role"], one["content"]) for one in last[1:]] == [
        ("assistant", "Yes"),
        ("user", FOLLOW_UP),
    ] * 2


def test_a_failure_is_counted_and_ends_its_conversation(server, asked):
    server.answer = lambda body: Canned(status=503, error="no")
    window = asked(Load("clients", 2), Extent(4, None, 0), turns=2)
    assert [(sample.turn, sample.error) for sample in window.samples] == [(0, "status 503")] * 4


class Stopping(list):
    """Samples of which the fourth stops the load."""

    def __init__(self, stop: threading.Event):
        super().__init__()
        self.stop = stop

    def append(self, sample) -> None:
        super().append(sample)
        if len(self) == 4:
            self.stop.set()


@pytest.mark.parametrize("load", [Load("clients", 2), Load("rate", 100.0)], ids=["clients", "rate"])
def test_a_signal_ends_a_load_with_what_was_answered(server, asked, load, monkeypatch):
    stop, lock, numbers = threading.Event(), threading.Lock(), iter(range(1000))

    def answer(body):
        with lock:
            return as_a_model(body, held=next(numbers) > 3)

    server.answer = answer
    monkeypatch.setattr(driving, "Window", lambda: Window(Stopping(stop)))
    window = asked(load, Extent(500, None, 0), stop=stop)
    assert window.stopped
    assert len(window.samples) == 4
    assert window.seconds > 0
