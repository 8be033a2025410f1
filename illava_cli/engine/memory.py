"""Peak memory of a piece of work, beyond what was in use before it began: the weights, above all.

PyTorch's allocator counts, on CUDA by itself and on a CPU under the profiler. Resident memory would say
less: it keeps what the C library holds back of freed tensors, which varied by a factor of two between
runs of the same work. Scratch memory of the libraries below PyTorch is not in it. The profiler takes
time, so memory is never measured while the clock runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr

import torch
from torch.autograd.profiler_util import MEMORY_EVENT_NAME
from torch.profiler import ProfilerActivity, profile


class PeakMeter:
    """`with PeakMeter(device) as meter: ...`, then `meter.peak_bytes`; None where it cannot be known."""

    def __init__(self, device: torch.device):
        self.device = device
        self.peak_bytes: int | None = None
        self._stack = ExitStack()

    def __enter__(self) -> PeakMeter:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu":
            with ExitStack() as stack:  # a profiler that does not start must not leave stderr closed
                stack.enter_context(_quiet())
                self._profile = stack.enter_context(
                    profile(activities=[ProfilerActivity.CPU], profile_memory=True)
                )
                self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)
        if self.device.type == "cuda":
            self.peak_bytes = max(0, torch.cuda.max_memory_allocated(self.device) - self._before)
        elif self.device.type == "cpu" and error[0] is None:
            self.peak_bytes = _peak(self._profile)


def _peak(profile: profile) -> int:
    """The greatest sum of what was allocated and not yet freed."""
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == MEMORY_EVENT_NAME]
    peak = held = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that the profiler's library writes to stderr, past Python; Python's own are heard."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with (
            open(kept, "w", buffering=1, closefd=False) as heard,
            # a stderr that was replaced before, as tests do, does not end at descriptor 2
            redirect_stderr(heard if sys.stderr is sys.__stderr__ else sys.stderr),
        ):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
