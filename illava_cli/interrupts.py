"""Ctrl-C and SIGTERM: one policy for all commands.

Within `Interrupts` the first signal asks to stop: what is in flight is cancelled or comes to its end, and
what was written stays. The second leaves at once. Elsewhere, where nothing has to be completed, a signal is
an exception. What a parent had ignored, as a script does with Ctrl-C for a job in the background, stays
ignored. The exit code is a shell's: 128 and the number of the first signal.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from illava_cli.errors import Cancelled

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 128 + signal.SIGINT


class Terminated(SystemExit):
    """SIGTERM: the program ends, with the code that a shell gives one that the signal killed."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupts:
    """`with Interrupts() as interrupts: ...`; handlers are back in place afterwards.

    `stop` is set by the first signal, and by any exception that leaves the block: a thread must not go on for
    a caller that has gone. A question that was cancelled leaves it as `ending()`.
    """

    def __init__(self, *, at_once: bool = True) -> None:
        """
        Args:
            at_once: the second signal ends the process; else it sets `leave`, for a caller that watches it.
        """
        self.stop, self.leave = threading.Event(), threading.Event()
        self.signum: int | None = None  # the first one's
        self._at_once = at_once
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> int:
        """What a program that a signal ended exits with."""
        return 128 + (self.signum or signal.SIGINT)

    def ending(self) -> BaseException:
        """What a caller raises who has stopped, for the program to end."""
        return Terminated() if self.signum == signal.SIGTERM else KeyboardInterrupt()

    def exit(self) -> NoReturn:
        """End the process as it is: a thread may be at work where nothing can stop it."""
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h")  # a progress bar hides the cursor
        os._exit(self.exit_code)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            self.leave.set()
            if self._at_once:
                self.exit()
        self.signum = self.signum or signum
        self.stop.set()

    def __enter__(self) -> Interrupts:
        # signals belong to the main thread; elsewhere none arrives
        if threading.current_thread() is threading.main_thread():
            heard = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
            self._before = {signum: signal.signal(signum, self._on_signal) for signum in heard}
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if kind is not None:
            self.stop.set()
            if issubclass(kind, Cancelled):
                raise self.ending() from None


def end_at_sigterm() -> None:
    """Makes SIGTERM a `Terminated` in the main thread, so that records are completed and temporary files go.

    A second signal ends the process as it is.
    """

    def on_terminate(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_terminate)


@contextmanager
def ending_at_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the process without a traceback: for imports, which no `try` is around yet."""
    before = signal.getsignal(signal.SIGINT)
    heard = before is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    yield
    if heard:
        signal.signal(signal.SIGINT, before)
