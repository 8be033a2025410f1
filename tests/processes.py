"""Processes of tests: they start as a shell in the foreground starts them, and none outlives its test."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# what a background job of a script, or `nohup`, has ignored; a child would inherit that
SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def default_signals() -> Iterator[None]:
    """What starts within this has the default signals, and this process goes on ignoring what it ignores.

    A handler, unlike "ignore", does not pass into another program; one that does nothing stands in meanwhile.
    """
    assert threading.current_thread() is threading.main_thread(), "only the main thread can set signals"
    ignored = [signum for signum in SIGNALS if signal.getsignal(signum) is signal.SIG_IGN]
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for signum in ignored:
        signal.signal(signum, lambda *_: None)
    try:
        yield
    finally:
        for signum in ignored:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class Process(subprocess.Popen):
    """A `Popen` in a session of its own. A `with` that fails, or runs out of time, ends all of it."""

    def __init__(self, command: Sequence[str | os.PathLike], **options: Any):
        with default_signals():
            super().__init__(command, start_new_session=True, **options)

    def end(self) -> None:
        """End all of its session that still runs, also what outlived it, and let go of its pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        super().__exit__(None, None, None)

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if error is None:
                super().__exit__(kind, error, traceback)  # waits
        finally:
            self.end()


def run(command: Sequence[str | os.PathLike], **options: Any) -> subprocess.CompletedProcess[str]:
    """A whole run: its exit code, and what it wrote, as text, to pipes; without `input` stdin is empty."""
    text = options.pop("input", "")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Process(command, **(pipes | {"encoding": "utf-8"} | options)) as process:
        out, err = process.communicate(text if process.stdin else None)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
