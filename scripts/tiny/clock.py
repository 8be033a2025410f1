"""Time that a training run has had, whatever else the machine does in between."""

import statistics
import time
from collections import deque


class Clock:
    """Sums the time of steps. One that took ten times the median was interrupted and counts as the median."""

    def __init__(self, spent: float = 0.0):
        self.spent = spent
        self._recent: deque[float] = deque(maxlen=51)
        self._started = 0.0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> None:
        took = time.perf_counter() - self._started
        if self._recent:
            usual = statistics.median(self._recent)
            took = usual if took > 10 * usual else took
        self._recent.append(took)
        self.spent += took
