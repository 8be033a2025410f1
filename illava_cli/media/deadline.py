"""What reading one medium may take, in time and in memory, and how a reading is given up.

Decoders and name look-ups are C code in which neither Ctrl-C nor a clock has a say. So a medium is read in
a thread of its own, while the caller waits for it, for its time to run out, or for the question to be
cancelled, whichever comes first. A reading that is given up ends by itself at its next `checkpoint`; one
that never gets there is left behind in a daemon thread, which keeps no process from ending.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from illava_cli.errors import Cancelled, MediaError, Timeout

MAX_BYTES = 256 * 2**20  # for whatever has to be held in memory: downloads, stdin, pipes
TICK_S = 0.05  # how late a cancelled question is noticed

T = TypeVar("T")


class GivenUp(BaseException):
    """Nobody waits for this reading any more. No `Exception`: no decoder's fallback is for it."""


class _Reading:
    """One reading: whether it was given up, and what has to be put back then."""

    def __init__(self) -> None:
        self.given_up = False
        self.lock = threading.Lock()
        self.undo: list[Callable[[], Any]] = []

    def give_up(self) -> None:
        with self.lock:
            self.given_up = True
            while self.undo:
                self.undo.pop()()


_thread = threading.local()


def checkpoint() -> None:
    """Ends this thread's reading where it was given up; elsewhere it does nothing.

    Raises:
        GivenUp: nobody waits for it.
    """
    reading: _Reading | None = getattr(_thread, "reading", None)
    if reading is not None and reading.given_up:
        raise GivenUp


@contextmanager
def changed(do: Callable[[], Any], undo: Callable[[], Any]) -> Iterator[None]:
    """Changes something of the whole process, and puts it back at the end of the block, or at once where
    the reading is given up meanwhile: the thread may be a long time in C."""
    reading: _Reading = getattr(_thread, "reading", None) or _Reading()
    with reading.lock:
        checkpoint()
        do()
        reading.undo.append(undo)
    try:
        yield
    finally:
        with reading.lock:
            if undo in reading.undo:
                reading.undo.remove(undo)
                undo()


def within(
    read: Callable[[], T], name: str, seconds: float | None = None, cancel: threading.Event | None = None
) -> T:
    """What `read` returns or raises, unless it takes too long or the question is cancelled.

    Args:
        name: of the medium, for the message.
        seconds: that it may take; None is no limit.
        cancel: set it to give up.

    Raises:
        Timeout: it took longer.
        Cancelled: `cancel` is set.
    """
    reading, done = _Reading(), queue.SimpleQueue()

    def run() -> None:
        _thread.reading = reading
        try:
            done.put((read(), None))
        except BaseException as error:
            done.put((None, error))

    deadline = None if seconds is None else time.monotonic() + seconds
    _check(name, cancel)
    threading.Thread(target=run, name="illava-media", daemon=True).start()
    try:
        result, error = _wait(done, name, seconds, deadline, cancel)
    except BaseException:
        reading.give_up()
        raise
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # whose traceback holds this very frame


def _check(name: str, cancel: threading.Event | None) -> None:
    checkpoint()  # of a reading around this one
    if cancel is not None and cancel.is_set():
        raise Cancelled(f"{name}: no longer read, as its question was cancelled")


def _wait(
    done: queue.SimpleQueue,
    name: str,
    seconds: float | None,
    deadline: float | None,
    cancel: threading.Event | None,
) -> tuple[Any, BaseException | None]:
    while True:
        _check(name, cancel)
        left = TICK_S if deadline is None else min(TICK_S, deadline - time.monotonic())
        with suppress(queue.Empty):
            return done.get(timeout=max(left, 0))
        if deadline is not None and time.monotonic() >= deadline:
            raise Timeout(f"{name}: not read within {seconds:g} s (--media-timeout allows more)")


def gathered(chunks: Iterable[bytes], name: str, max_bytes: int = MAX_BYTES) -> bytes:
    """All chunks together.

    Raises:
        MediaError: they are more than `max_bytes`.
        GivenUp: nobody waits for them.
    """
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        checkpoint()
        held.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise too_long(name, max_bytes)
    return b"".join(held)


def too_long(name: str, max_bytes: int) -> MediaError:
    """What is said of bytes that are too many to be held."""
    size = f"{max_bytes / 2**20:g} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
    return MediaError(f"{name}: is over {size}; scale it down, or save it to a file and name that")
