"""What replicas know of one another, without a cluster."""

import asyncio

from illava_cli.batch.on_ray import ledger as module
from illava_cli.batch.on_ray.ledger import Ledger


def test_tries_of_a_block_and_loads_that_fail():
    async def story():
        ledger = Ledger()
        assert [await ledger.loading(), await ledger.loading()] == [1, 2]
        await ledger.loaded()
        assert await ledger.loading() == 1
        assert [await ledger.begin(7), await ledger.begin(8), await ledger.begin(7)] == [1, 1, 2]

    asyncio.run(story())


def test_a_stop_waits_for_what_is_in_flight_only(monkeypatch):
    monkeypatch.setattr(module, "TICK_S", 0)

    async def story():
        ledger = Ledger()
        for block in range(3):
            await ledger.begin(block)
        await ledger.end(0)
        stop, told = asyncio.create_task(ledger.stop()), asyncio.create_task(ledger.stopped())
        await told
        assert await ledger.begin(3) == 0
        await ledger.end(1)
        for _ in range(10):  # it looks again and again
            await asyncio.sleep(0)
        assert not stop.done()
        assert await ledger.begin(2) == 0  # its replica died, and another one finds that the run stops
        await stop

    asyncio.run(story())
