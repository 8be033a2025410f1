"""The loop of a run with a worker that is none: what is written, and how a run ends early."""

import json
import signal
import threading

import pytest

from illava_cli.batch.journal import Journal
from illava_cli.batch.runner import Leave, run
from illava_cli.config import Config
from illava_cli.errors import OutputError
from illava_cli.interrupts import SIGNALS, Interrupts
from tests.batch.conftest import record

CONFIG = Config()


class Told:
    """A writer that keeps what it is told."""

    def __init__(self):
        self.restored, self.added = None, []

    def restore(self, records):
        self.restored = [one["id"] for one in records]

    def add(self, one):
        self.added.append(one["id"])


@pytest.fixture
def journal(tmp_path, items):
    journal = Journal(tmp_path / "out.jsonl")
    journal.plan(items, CONFIG)
    yield journal
    journal.close()


def test_records_are_written_as_they_come(journal, items):
    seen, writer, written = [], Told(), threading.Semaphore(0)
    with Interrupts(at_once=False) as interrupts:

        def answer(pending):
            for item in pending:
                yield record(item, CONFIG)
                assert written.acquire(timeout=60)  # it is on disk before the next one is asked

        def on_record(one):
            lines = journal.path.read_text().splitlines()
            seen.append((one["id"], json.loads(lines[-1])["id"]))
            written.release()

        run(answer, items, journal, [writer], interrupts, on_record=on_record)
    assert seen == [(name, name) for name in "abcd"]
    assert (writer.restored, writer.added) == ([], list("abcd"))


def test_a_failure_ends_a_run_that_is_told_so(journal, items):
    with Interrupts(at_once=False) as interrupts:

        def answer(pending):
            for item in pending:
                if interrupts.stop.is_set():
                    return
                yield record(item, CONFIG, None if item.id == "b" else "red")
                if item.id == "b":
                    assert interrupts.stop.wait(60)

        run(answer, items, journal, [], interrupts, on_error="stop")
    assert list(journal.entries) == ["a", "b"]


def test_a_bug_of_the_worker_comes_out(journal, items):
    def answer(pending):
        yield record(pending[0], CONFIG)
        raise ZeroDivisionError

    with Interrupts(at_once=False) as interrupts, pytest.raises(ZeroDivisionError):
        run(answer, items, journal, [], interrupts)
    assert list(journal.entries) == ["a"]


def test_a_writer_that_fails_ends_the_run_when_the_worker_has(journal, items):
    finished = threading.Event()

    class Full(Told):
        def add(self, one):
            raise OutputError("the disk is full")

    with Interrupts(at_once=False) as interrupts:

        def answer(pending):
            yield record(pending[0], CONFIG)
            assert interrupts.stop.wait(60)
            finished.set()

        with pytest.raises(OutputError):
            run(answer, items, journal, [Full()], interrupts)
    assert finished.is_set()


@pytest.fixture
def foreground():
    """No signal is ignored, wherever the tests were started from."""
    before = {signum: signal.signal(signum, signal.SIG_DFL) for signum in SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_stops_and_a_second_leaves(signum, journal, items):
    before = signal.getsignal(signum)
    asleep, written = threading.Event(), threading.Event()
    with Interrupts(at_once=False) as interrupts:

        def on_record(one):
            if one["id"] == "b":
                written.set()

        def answer(pending):
            yield record(pending[0], CONFIG)
            signal.raise_signal(signum)
            assert interrupts.stop.wait(60)
            yield record(pending[1], CONFIG)  # what was in flight
            assert written.wait(60)
            signal.raise_signal(signum)
            asleep.wait()

        told = []
        options = {"on_record": on_record, "on_signal": lambda: told.append(interrupts.signum)}
        with pytest.raises(Leave):
            run(answer, items, journal, [], interrupts, **options)
        assert told == [signum]
        assert interrupts.exit_code == 128 + signum
    asleep.set()
    assert signal.getsignal(signum) is before
    assert list(journal.entries) == ["a", "b"]


@pytest.mark.usefixtures("foreground")
def test_what_the_process_was_told_to_ignore_stays_ignored():
    """A script starts a job in the background with Ctrl-C ignored: only SIGTERM is for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts(at_once=False) as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert not interrupts.stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.stop.is_set()
    assert interrupts.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
