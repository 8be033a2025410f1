"""Reading ahead: the media of the next questions, in processes, within a bound of memory and in order."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.readers.job import FrameSize, Job, Media, read
from illava_cli.readers.process import ReaderProcess, is_ours

MAX_BYTES = 1 << 30  # decoded media that wait for the model, in memory and in files
AHEAD = 64  # groups that are read or being read
TICK_S = 0.1

Group = list[Item]  # items about the same media


def by_media(items: Iterable[Item]) -> list[Group]:
    """Items about the same media together, in the order in which the first of each comes."""
    groups: dict[str, Group] = {}
    for item in items:
        groups.setdefault(item.media_key, []).append(item)
    return list(groups.values())


class ReadAhead:
    """Media of groups, read and prepared ahead in the order of the groups.

    `waited_s` is how long `take` waited, `read_s` how long reading and preparing took, in all processes
    and threads together.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        job: Callable[[Group], Job],
        frame_size: FrameSize,
        prepare: Callable[[Group, Media], Any],
        *,
        processes: int,
        timeout: float | None = None,
        max_bytes: int = MAX_BYTES,
    ):
        """
        Args:
            job: what to read for a group.
            prepare: makes of what was read what `take` returns. All three are called from other threads.
            processes: how many; 0 reads in a thread of this process.
            timeout: seconds for a group, after which its media count as unreadable; what is read in this
                process has the limit of each medium only.
            max_bytes: bound on what is read and not yet released. What is being read comes on top: at most
                two groups for each process.
        """
        self._groups: Iterator[Group] = iter(groups)
        self._job, self._frame_size, self._prepare = job, frame_size, prepare
        self._timeout, self._max_bytes = timeout, max_bytes
        self._lock = threading.RLock()
        self._reading: deque[Future] = deque()
        self._in_hand = 0  # bytes that are read and not released
        self._running = 0
        self._cancel = threading.Event()  # for what is read in this process
        self._closed = self._exhausted = False
        self.waited_s = self.read_s = 0.0
        self._processes = [ReaderProcess(frame_size) for _ in range(processes)]
        self._idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._pool = ThreadPoolExecutor(max(1, processes), "illava-reader")

    def __enter__(self) -> ReadAhead:
        self._top_up()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._closed = True
        self._cancel.set()
        for process in self._processes:
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to take."""
        return self._exhausted and not self._reading

    def take(self, stop: threading.Event, *, wait: float | None = None) -> Any | None:
        """What `prepare` made of the next group; None where memory is full, nothing is left, or at `stop`.

        Args:
            wait: seconds after which it is also None where it is not there yet; None: as long as it takes.
        """
        self._top_up()
        if not self._reading:
            return None
        started = time.perf_counter()
        while not stop.is_set():
            left = TICK_S if wait is None else wait - (time.perf_counter() - started)
            try:
                prepared = self._reading[0].result(min(max(left, 0), TICK_S))
                break
            except NotYet:
                if left <= 0:
                    return None
        else:
            return None
        self.waited_s += time.perf_counter() - started
        self._reading.popleft()
        return prepared

    def release(self, media: Media) -> None:
        """Tell that media, and what was made of them, are no longer held."""
        with self._lock:
            self._in_hand -= media.nbytes
        self._top_up()

    def _top_up(self) -> None:
        with self._lock:
            while self._has_room():
                group = next(self._groups, None)
                if group is None:
                    self._exhausted = True
                    return
                self._running += 1
                self._reading.append(self._pool.submit(self._read, group))

    def _has_room(self) -> bool:
        busy = self._running >= 2 * max(1, len(self._processes)) or len(self._reading) >= AHEAD
        return not (self._closed or self._exhausted or busy) and self._in_hand < self._max_bytes

    def _read(self, group: Group) -> Any:
        job = self._job(group)
        if not self._processes or any(map(is_ours, [*job.images, *job.videos])):
            media = read(job, self._frame_size, self._cancel)
        else:
            process = self._idle.get()
            try:
                media = process.read(job, self._timeout)
            finally:
                self._idle.put(process)
        with self._lock:
            self._in_hand += media.nbytes
        started = time.perf_counter()
        prepared = self._prepare(group, media)
        with self._lock:
            self.read_s += media.seconds + time.perf_counter() - started
            self._running -= 1
        self._top_up()
        return prepared
