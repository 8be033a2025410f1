"""Requests' media, read by a few processes: what kills or hangs one costs its own request only."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from illava_cli.errors import Cancelled
from illava_cli.readers.job import FrameSize, Job, Media
from illava_cli.readers.process import ReaderProcess


class ReaderPool:
    """Reader processes for the tasks of one event loop, in the order in which these ask.

    The processes are started with the pool, and a new one as soon as one has ended, so that a request seldom
    waits for Python to start.
    """

    def __init__(
        self,
        processes: int,
        frame_size: FrameSize,
        timeout: float | None,
        memory_mb: int | None = None,
    ):
        """
        Args:
            processes: how many read at a time.
            frame_size: called in threads.
            timeout: seconds for all media of a job.
            memory_mb: that a process may take, in MiB.
        """
        self._frame_size, self._timeout, self._memory_mb = frame_size, timeout, memory_mb
        self._closed = False
        self._idle = deque(self._started() for _ in range(processes))
        self._reading: set[ReaderProcess] = set()
        self._free = asyncio.Semaphore(processes)  # wakes who waits longest
        # more than processes: those that were killed end a moment after their place is taken
        self._threads = ThreadPoolExecutor(2 * processes, "illava-reader")
        self._waiting = 0

    @property
    def busy(self) -> int:
        """How many processes read."""
        return len(self._reading)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a process."""
        return self._waiting

    async def read(self, job: Job) -> Media:
        """The media of a job. When the task is cancelled, the process that reads for it is ended at once.

        Raises:
            MediaError: one of them cannot be read, or kills its decoder, or takes too much memory.
            Timeout: they take too long.
            Cancelled: the pool was closed meanwhile.
        """
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            media = await self._read(job)
        finally:
            self._free.release()
        if media.error is not None:
            raise media.error
        return media

    async def _read(self, job: Job) -> Media:
        self._check()
        process = self._idle.popleft()
        self._reading.add(process)
        reading = self._threads.submit(self._in_thread, process, job)
        try:
            media = await asyncio.wrap_future(reading)
        except BaseException:
            process.kill()
            reading.cancel()  # where it waits for a thread yet
            reading.add_done_callback(lambda _, ended=process: ended.close())
            self._reading.discard(process)
            self._idle.append(self._started())
            raise
        self._reading.discard(process)
        self._idle.append(process)
        self._check()
        return media

    def _in_thread(self, process: ReaderProcess, job: Job) -> Media:
        media = process.read(job, self._timeout)
        process.start()  # where it has ended: the next job need not wait for another
        return media

    def _started(self) -> ReaderProcess:
        process = ReaderProcess(self._frame_size, self._memory_mb)
        if not self._closed:
            process.start()
        return process

    def _check(self) -> None:
        if self._closed:
            raise Cancelled("the server is ending: media are no longer read")

    async def close(self) -> None:
        """End all processes; what is being read, or waits, is `Cancelled`."""
        self._closed = True
        for process in [*self._idle, *self._reading]:
            process.kill()
        await asyncio.to_thread(self._threads.shutdown)
        for process in [*self._idle, *self._reading]:
            process.close()
