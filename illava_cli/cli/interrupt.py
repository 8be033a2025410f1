"""Ctrl-C during an answer asks the engine to stop, so that what was said so far is kept.

A handler sets the `cancel` event that `ask` polls: no exception tears through the engine, and the
partial answer comes back as its result. A second Ctrl-C is for an engine that does not get there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, and any exception too; the second raises KeyboardInterrupt."""
    cancel = threading.Event()

    def on_interrupt(signum: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    # signals belong to the main thread, elsewhere Ctrl-C never arrives; a job in the background ignores it
    in_main = threading.current_thread() is threading.main_thread()
    heard = in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    previous = signal.signal(signal.SIGINT, on_interrupt) if heard else None
    try:
        yield cancel
    except BaseException:
        cancel.set()  # a worker thread must not go on for a caller that has gone
        raise
    finally:
        if heard:
            signal.signal(signal.SIGINT, previous)
