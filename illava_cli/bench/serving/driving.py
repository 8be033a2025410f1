"""A load, kept up for a while, and what was measured meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from illava_cli.bench.serving.asking import Asker
from illava_cli.bench.serving.loads import Extent, Load, arrivals
from illava_cli.bench.serving.questions import Questions
from illava_cli.bench.serving.samples import Sample

FOLLOW_UP = "What else is shown?"  # the later turns of a conversation
PAUSE_S = 0.1  # of a client after a failure, which may have taken no time at all
TICK_S = 0.02  # how often it is looked whether this process keeps up, and whether it is to stop
WARMING_CLIENTS = 4  # before requests come at a rate
AHEAD = 1.5  # questions that are made ahead where their number is a guess


@dataclass
class Window:
    """The time in which requests were counted.

    Args:
        began, ended: on the clock of `time.perf_counter`.
        client_s: seconds of a processor that this process took, and `server_s` the server's.
        lags: how late this process was at what it meant to do, in seconds.
        late: questions that were not made ahead.
        stopped: by a signal.
    """

    samples: list[Sample] = field(default_factory=list)
    began: float | None = None
    ended: float | None = None
    client_s: float = 0.0
    server_s: float | None = None
    lags: list[float] = field(default_factory=list)
    late: int = 0
    stopped: bool = False

    @property
    def open(self) -> bool:
        return self.began is not None and self.ended is None

    @property
    def seconds(self) -> float:
        return self.ended - self.began if self.ended is not None else 0.0


class Driver:
    """Puts one server under one load after another, with questions that go on from load to load."""

    def __init__(
        self,
        questions: Questions,
        turns: int,
        stop: threading.Event,
        server_cpu: Callable[[], float | None] = lambda: None,
    ):
        """
        Args:
            turns: of each conversation.
            server_cpu: seconds of a processor that the server has taken.
        """
        self.questions, self.turns, self.stop, self.server_cpu = questions, turns, stop, server_cpu
        self._numbers = itertools.count()
        self._ready = 0  # questions that are made
        self._next = 0

    def prepare(self, count: float) -> None:
        """Make the questions of so many requests ahead."""
        end = self._next + -(-int(count) // self.turns) + 1
        self._ready = max(self._ready, self._next)
        while self._ready < end and not self.stop.is_set() and self.questions.prepare(self._ready):
            self._ready += 1

    async def measure(self, asker: Asker, load: Load, extent: Extent, seed: int) -> Window:
        """The requests of a load. Those that are under way at its end have an answer, but do not count."""
        window = Window()
        if load.kind == "rate":
            work = self._open(asker, load, extent, seed, window)
        elif extent.seconds is None:
            work = self._closed(asker, int(load.value), extent, window)
        else:
            work = self._for_seconds(asker, int(load.value), extent, window)
        tasks = [asyncio.create_task(work), asyncio.create_task(self._watch(window))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await tasks[0]
            self._shut(window)
        window.stopped = self.stop.is_set()
        return window

    # --- loads ------------------------------------------------------------------------------------

    async def _closed(self, asker: Asker, clients: int, extent: Extent, window: Window | None) -> None:
        """Clients that ask again and again: at first for warmth, then counted.

        Args:
            window: None: nothing is counted, and they end with the warm-up.
        """
        over, warm = asyncio.Event(), 0

        def begin() -> None:
            if window is None:
                over.set()
                return
            if extent.seconds is not None:
                asyncio.get_running_loop().call_later(extent.seconds, end)
            self._begin(window)

        def end() -> None:
            self._shut(window)
            over.set()

        def take(sample: Sample) -> None:
            nonlocal warm
            warm += 1
            if window is not None and window.open:
                window.samples.append(sample)
                if len(window.samples) == extent.requests:
                    end()
            elif warm == extent.warmup:
                begin()

        async def client() -> None:
            while not over.is_set():
                async for sample in self._conversation(asker, time.perf_counter(), window):
                    take(sample)
                    if sample.error:
                        await asyncio.sleep(PAUSE_S)
                    if over.is_set():
                        return

        self.prepare(extent.warmup + (extent.requests or 0) + clients * self.turns)
        if not extent.warmup:
            begin()
        async with asyncio.TaskGroup() as group:  # none goes on where one fails
            for _ in range(clients):
                group.create_task(client())

    async def _for_seconds(self, asker: Asker, clients: int, extent: Extent, window: Window) -> None:
        """As many requests as there are in a time: how many that may be, a warm-up of its own says."""
        warmup = max(extent.warmup, clients)
        started = time.perf_counter()
        await self._closed(asker, clients, Extent(None, None, warmup), None)
        rate = warmup / (time.perf_counter() - started)
        self.prepare(AHEAD * rate * extent.seconds)
        await self._closed(asker, clients, Extent(None, extent.seconds, clients), window)

    async def _open(self, asker: Asker, load: Load, extent: Extent, seed: int, window: Window) -> None:
        """Conversations that begin when they are due; so many that their requests come at the load's rate."""
        rate = load.value / self.turns
        count = None if extent.requests is None else -(-extent.requests // self.turns)
        times = arrivals(rate, Extent(count, extent.seconds, 0), seed)
        if extent.warmup:
            few = min(WARMING_CLIENTS, extent.warmup)
            await self._closed(asker, few, Extent(None, None, extent.warmup), None)
        self.prepare(len(times) * self.turns)

        async def one(due: float) -> None:
            async for sample in self._conversation(asker, due, window):
                window.samples.append(sample)

        self._begin(window)
        asked: list[asyncio.Task] = []
        try:
            for time_s in times:
                due = window.began + time_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                asked.append(asyncio.create_task(one(due)))
            await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()

    async def _conversation(self, asker: Asker, due: float, window: Window | None) -> AsyncIterator[Sample]:
        """A conversation's requests, each with the answers to those before it; a failure ends it."""
        number = self._next = next(self._numbers)
        if number >= self._ready and window is not None and window.open:
            window.late += 1
        messages = [{"role": "user", "content": self.questions.content(number)}]
        for turn in range(self.turns):
            sample = await asker.ask(messages, Sample(due, turn, self.questions.media))
            yield sample
            if sample.error:
                return
            messages = [
                *messages,
                {"role": "assistant", "content": sample.text},
                {"role": "user", "content": FOLLOW_UP},
            ]
            due = time.perf_counter()

    # --- the window -------------------------------------------------------------------------------

    def _begin(self, window: Window) -> None:
        window.client_s, window.server_s = time.process_time(), self.server_cpu()
        window.began = time.perf_counter()

    def _shut(self, window: Window) -> None:
        if not window.open:
            return
        window.ended = time.perf_counter()
        window.client_s = time.process_time() - window.client_s
        took = self.server_cpu()
        if window.server_s is not None and took is not None:
            window.server_s = took - window.server_s

    async def _watch(self, window: Window) -> None:
        """Until a signal."""
        while not self.stop.is_set():
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            if window.open:
                window.lags.append(time.perf_counter() - due)
