"""Peak memory of a piece of work, beyond what was in use before it began: the weights, above all.

On CUDA the allocator counts. On Linux the kernel's high-water mark of resident memory is reset before
and read after; freed memory that the C library holds back is returned first, or the work would reuse it
unseen. Elsewhere there is no number.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


class PeakMeter:
    """`with PeakMeter(device) as meter: ...`, then `meter.peak_bytes`; None where it cannot be known."""

    def __init__(self, device: torch.device):
        self.device = device
        self.peak_bytes: int | None = None
        self._before: int | None = None

    def __enter__(self) -> PeakMeter:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu":
            self._before = _resident_after_reset()
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            return
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _status("VmHWM")
        self.peak_bytes = None if peak is None else max(0, peak - self._before)


def _resident_after_reset() -> int | None:
    """Resident bytes now, with the high-water mark set down to them; None where that is not possible."""
    # another C library has no such call: the peak is then a lower bound
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
