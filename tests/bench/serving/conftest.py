"""A server that answers as told, and what asks it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from illava_cli.bench.serving.asking import Asker
from illava_cli.bench.serving.driving import Driver
from illava_cli.bench.serving.loads import Extent, Load
from illava_cli.bench.serving.questions import Asked, Recorded
from illava_cli.client.server import Server
from tests.serve.fake_server import FakeServer


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture
def asked(server):
    """Measures a load on the server, with questions that are words alone; the window."""

    def measure(load: Load, extent: Extent, turns: int = 1, stop: threading.Event | None = None):
        driver = Driver(Recorded([Asked("What?")]), turns, stop or threading.Event())

        async def run():
            async with Asker(Server.of(server.url), {"model": "tiny"}, 60) as asker:
                return await driver.measure(asker, load, extent, 0)

        return asyncio.run(run())

    return measure
