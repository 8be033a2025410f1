"""What every replica must know of the others: tries, failed loads, and whether the run is to stop.

An actor of the cluster, which lives on when a replica dies. Ray restarts replicas and repeats their blocks
for ever; here is counted when that is enough.
"""

from __future__ import annotations

import asyncio
from collections import Counter

TICK_S = 0.05


class Ledger:
    """Counts by block number; all calls run in one event loop, so that none sees another half done."""

    def __init__(self) -> None:
        self._tries: Counter[int] = Counter()
        self._in_flight: set[int] = set()
        self._loads = 0
        self._stop = asyncio.Event()

    async def loading(self) -> int:
        """A replica begins to load: how many have, since the last one that came through, and this one."""
        self._loads += 1
        return self._loads

    async def loaded(self) -> None:
        """A replica has come through."""
        self._loads = 0

    async def begin(self, block: int) -> int:
        """A replica begins a block: which try it is, or 0 where the run stops and it is to leave it."""
        if self._stop.is_set():
            self._in_flight.discard(block)  # the try before died
            return 0
        self._in_flight.add(block)
        self._tries[block] += 1
        return self._tries[block]

    async def end(self, block: int) -> None:
        """A replica is through with a block."""
        self._in_flight.discard(block)

    async def stop(self) -> None:
        """Let no block begin, and tell the replicas; returns when none is in flight."""
        self._stop.set()
        while self._in_flight:
            await asyncio.sleep(TICK_S)

    async def stopped(self) -> None:
        """Returns when the run is to stop."""
        await self._stop.wait()
