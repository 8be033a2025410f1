"""Ctrl-C during an answer asks the engine to stop, so that what was said so far is kept; SIGTERM ends all.

A handler sets the `cancel` event that `ask` polls, while media are read and between words: no exception
tears through the engine, and the partial answer comes back as its result. A second Ctrl-C is for an engine
that does not get there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from illava_cli.errors import Cancelled


class Terminated(SystemExit):
    """SIGTERM: the program ends, with the code that a shell gives one that the signal killed."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def end_at_sigterm() -> None:
    """Makes SIGTERM a `Terminated` in the main thread, so that records are completed and temporary files go.

    What a parent had ignored stays ignored. A second signal ends the process as it is.
    """

    def on_terminate(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_terminate)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, and any exception too; the second raises KeyboardInterrupt.

    Raises:
        KeyboardInterrupt: also where the question was cancelled before it had an answer.
    """
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
    except Cancelled:
        raise KeyboardInterrupt from None
    except BaseException:
        cancel.set()  # a worker thread must not go on for a caller that has gone
        raise
    finally:
        if heard:
            signal.signal(signal.SIGINT, previous)
