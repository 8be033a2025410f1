"""Processes with a common limit, started again where they ask for it or crash."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gpu_suite.plan import AGAIN

STARTS = 4  # of one job: each leaves out what broke the one before
TICK_S, GRACE_S = 0.25, 2.0


@dataclass
class Job:
    """A process.

    Args:
        command: made of the seconds that it has.
    """

    name: str
    command: Callable[[float], list[str]]
    env: dict[str, str]
    starts: int = 0
    outcome: str | None = None  # None while it runs
    process: subprocess.Popen | None = field(default=None, repr=False)


def run(jobs: Sequence[Job], seconds: float, log: Path, tick: Callable[[], None]) -> dict[str, str]:
    """Run `jobs` side by side for at most that long, and say how each ended: `ok`, or what happened.

    Args:
        log: takes what they print.
        tick: called a few times a second.
    """
    end = time.monotonic() + seconds
    with open(log, "ab") as printed:
        try:
            for job in jobs:
                _start(job, seconds, printed)
            while any(job.outcome is None for job in jobs):
                left = end - time.monotonic()
                if left <= 0:
                    break
                for job in jobs:
                    _look_after(job, left, printed)
                tick()
                time.sleep(min(TICK_S, max(0.0, left)))
        finally:
            _stop([job for job in jobs if job.outcome is None])
            for job in jobs:
                job.outcome = job.outcome or f"cut off after {seconds:.0f} s"
    return {job.name: job.outcome for job in jobs}


def _start(job: Job, seconds: float, printed: IO[bytes]) -> None:
    job.starts += 1
    job.process = subprocess.Popen(
        job.command(seconds),
        env=job.env,
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that the processes which it starts end with it
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def _look_after(job: Job, left: float, printed: IO[bytes]) -> None:
    """Note how a job ended, or start it again."""
    if job.outcome is not None or (code := job.process.poll()) is None:
        return
    if code == 0:
        job.outcome = "ok"
    elif (code == AGAIN or code < 0) and job.starts < STARTS:
        _start(job, left, printed)
    else:
        job.outcome = f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _stop(jobs: Sequence[Job]) -> None:
    """End what still runs: asked first, then without asking."""
    running = [job.process for job in jobs if job.process is not None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, number)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until and any(process.poll() is None for process in running):
            time.sleep(0.02)


def _die_with_parent() -> None:
    """A conductor that is killed takes its processes along: nobody else would end them."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
