"""A run: records from a worker into the journal and what is written beside it.

The worker works in a thread of its own. This one alone writes, and stays open to signals: none of them
can come between the bytes of a line.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.batch.journal import Journal
from illava_cli.batch.writers import Writer
from illava_cli.interrupts import Interrupts

Record = dict[str, Any]
Answer = Callable[[Sequence[Item]], Iterator[Record]]  # a worker's; it ends early where `stop` is set
TICK_S = 0.1


class Leave(Exception):
    """A second signal: nothing is waited for. The worker's thread may still be at work."""


def run(
    answer: Answer,
    pending: Sequence[Item],
    journal: Journal,
    writers: Sequence[Writer],
    interrupts: Interrupts,
    *,
    on_record: Callable[[Record], None] = lambda record: None,
    on_signal: Callable[[], None] = lambda: None,
    on_error: str = "skip",
) -> None:
    """Ask the pending items and write their records as they come.

    Args:
        on_record: told of each record when it is written.
        on_signal: told once of a signal, as soon as it has come.
        on_error: `skip` goes on after a record of a failure, `stop` ends the run after what is in flight.

    Raises:
        OutputError: a record could not be written; what was written before is whole.
        Leave: at a second signal.
    """
    journal.begin(pending)
    for writer in writers:
        writer.restore(journal.records())
    with closing(_from_thread(lambda: answer(pending), interrupts, on_signal)) as records:
        for record in records:
            journal.add(record)
            for writer in writers:
                writer.add(record)
            on_record(record)
            if record["status"] == "error" and on_error == "stop":
                interrupts.stop.set()


def _from_thread(
    work: Callable[[], Iterator[Record]], interrupts: Interrupts, on_signal: Callable[[], None]
) -> Iterator[Record]:
    """What `work` yields in a thread of its own."""
    results: queue.SimpleQueue[tuple[Record | None, BaseException | None]] = queue.SimpleQueue()

    def produce() -> None:
        try:
            for record in work():
                results.put((record, None))
            results.put((None, None))
        except BaseException as error:
            results.put((None, error))

    # a daemon: whoever leaves at once does not wait for it
    thread = threading.Thread(target=produce, name="illava-worker", daemon=True)
    thread.start()
    told = False
    try:
        while True:
            if interrupts.signum is not None and not told:
                told = True
                on_signal()
            if interrupts.leave.is_set():
                raise Leave
            try:
                record, error = results.get(timeout=TICK_S)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if record is None:
                return
            yield record
    finally:
        # also where a record could not be written: what is in flight ends before the program does
        interrupts.stop.set()
        while thread.is_alive() and not interrupts.leave.is_set():
            thread.join(TICK_S)
