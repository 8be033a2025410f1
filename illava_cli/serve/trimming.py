"""Memory that was freed goes back to the system when a server has nothing to do.

The C library keeps much of it, in pieces between what is still used: a server would look as large for ever
as it was under its greatest load.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from contextlib import suppress

QUIET_S = 2.0  # without a request, before it is done


def trim() -> None:
    """Give back what is free; elsewhere than on glibc nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Trimming:
    """Trims once nothing has been asked for a while; for one event loop."""

    def __init__(self, trim: Callable[[], None] = trim, quiet_s: float = QUIET_S):
        self._trim, self._quiet_s = trim, quiet_s
        self._waiting: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Something is asked."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def rest(self) -> None:
        """Nothing is being answered any more."""
        self.wake()
        loop = asyncio.get_running_loop()
        # in a thread: it may take a while, and a request may come
        self._waiting = loop.call_later(self._quiet_s, lambda: loop.run_in_executor(None, self._trim))
