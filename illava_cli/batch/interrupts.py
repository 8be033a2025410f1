"""Signals during a run: the first asks to stop after what is in flight, the second to leave at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """`with Interrupts() as interrupts: ...`; handlers are back in place afterwards.

    `stop` is set by the first signal, `leave` by the second; `signum` is the first one's number.
    """

    def __init__(self) -> None:
        self.stop, self.leave = threading.Event(), threading.Event()
        self.signum: int | None = None
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> int:
        """What a program that a signal ended exits with."""
        return 128 + (self.signum or signal.SIGINT)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            self.leave.set()
        self.signum = self.signum or signum
        self.stop.set()

    def __enter__(self) -> Interrupts:
        # signals belong to the main thread; elsewhere none arrives
        if threading.current_thread() is threading.main_thread():
            # a script starts a job in the background with Ctrl-C ignored: so it stays
            heard = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
            self._before = {signum: signal.signal(signum, self._on_signal) for signum in heard}
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
