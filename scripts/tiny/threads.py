"""As many threads as there are idle cores.

Threads of one matrix product wait for each other: where another program holds a core, fewer are faster.
"""

import os
import time
from pathlib import Path

import torch

STAT = Path("/proc/stat")
EVERY = 4.0  # seconds


class Threads:
    """Sets torch's threads by what other programs use; does nothing where `/proc/stat` is missing."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1
        self.last = self._sample() if STAT.exists() else None

    def _sample(self) -> tuple[float, float, float]:
        """Wall seconds, busy seconds of all cores, busy seconds of this process."""
        fields = [int(v) for v in STAT.read_text().split("\n", 1)[0].split()[1:]]
        busy = sum(fields[:3]) + sum(fields[5:8])  # user, nice, system; irq, softirq, steal
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), time.process_time()

    def adapt(self) -> None:
        if self.last is None or time.monotonic() - self.last[0] < EVERY:
            return
        now = self._sample()
        wall, busy, own = (a - b for a, b in zip(now, self.last, strict=True))
        others = max(0.0, busy - own) / wall
        self.last = now
        torch.set_num_threads(max(1, self.cores - round(others)))
