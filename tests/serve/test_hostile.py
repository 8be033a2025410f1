"""The tables of hostile requests against what stands before the model: the next one is served."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from illava_cli.config import MediaOptions
from illava_cli.errors import IllavaError
from illava_cli.readers.job import Job
from illava_cli.serve import protocol
from illava_cli.serve.gate import Gate, names_of
from illava_cli.serve.keys import Keys
from illava_cli.serve.reading import ReaderPool
from tests.serve import hostile, hostile_wire
from tests.serve.hostile import MEDIA, Medium, Scene
from tests.serve.hostile_wire import WIRE, Wire

OPTIONS = MediaOptions(num_frames=2, media_timeout=60)
OURS = (401, 403, 408, 413, 415)  # statuses by which the gate refuses
GOOD = Wire("a good one", hostile_wire.whole(b'{"a": 1}'), (200,))


def frame_size(*about) -> tuple[int, int]:
    return 8, 12


def test_there_are_enough():
    assert len({case.name for case in MEDIA}) == len(MEDIA) > 60
    assert len({case.name for case in WIRE}) == len(WIRE) > 40


# --- media ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with hostile.scene(tmp_path_factory.mktemp("scene")) as scene:
        yield scene


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def pool(loop):
    pool = ReaderPool(2, frame_size, hostile.JOB_S, hostile.MEMORY_MB)
    yield pool
    loop.run_until_complete(pool.close())


def job(case: Medium, scene: Scene) -> Job:
    source = case.source(scene)
    images, videos = ([source], []) if case.kind == "image" else ([], [source])
    return Job(images, videos, OPTIONS, scene.access)


@pytest.mark.parametrize("case", MEDIA, ids=[case.name for case in MEDIA])
def test_a_hostile_medium_costs_its_request_only(case: Medium, scene: Scene, pool: ReaderPool, loop):
    good = Job([f"file://{scene.root}/a.png"], [], OPTIONS, scene.access)

    async def both():
        return await asyncio.gather(pool.read(job(case, scene)), pool.read(good), return_exceptions=True)

    error, media = loop.run_until_complete(both())
    assert isinstance(error, IllavaError), error
    assert re.search(case.words, str(error)), error
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    assert media.images[0].width == 8
    assert scene.inner.asked == []
    assert (pool.busy, pool.waiting) == (0, 0)


# --- HTTP -------------------------------------------------------------------------------------


class Tiny:
    """An application behind the gate, served on a free port in a thread."""

    def __init__(self, gate: Gate):
        async def echo(request: Request) -> JSONResponse:
            return JSONResponse(await request.json())

        async def fine(request: Request) -> JSONResponse:
            return JSONResponse({})

        routes = [Route(hostile_wire.PATH.decode(), echo, methods=["POST"])]
        routes += [Route(path, fine) for path in ("/", "/health", "/metrics", "/page/a.js", "/docs")]
        app = gate.around(Starlette(routes=routes))
        config = uvicorn.Config(
            app, http=protocol.Protocol, log_level="critical", lifespan="off", access_log=False
        )
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.socket])))

    def __enter__(self) -> Tiny:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self._thread.join()
        self.socket.close()


@pytest.fixture(scope="module")
def tiny():
    gate = Gate(
        keys=Keys(["another", hostile_wire.KEY]),
        names=names_of("127.0.0.1"),
        max_body=hostile_wire.MAX_BODY,
        body_s=hostile_wire.BODY_S,
    )
    before, protocol.HEAD_S = protocol.HEAD_S, hostile_wire.BODY_S
    with Tiny(gate) as tiny:
        yield tiny
    protocol.HEAD_S = before


@pytest.mark.parametrize("case", WIRE, ids=[case.name for case in WIRE])
def test_hostile_bytes_are_answered_by_their_status(case: Wire, tiny: Tiny):
    found = hostile_wire.answer(tiny.port, case)
    status = int(found[9:12] or 0)
    assert status in case.status, found[:500]
    if status in OURS:
        error = json.loads(found.partition(b"\r\n\r\n")[2])["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert b"nosniff" in found
    assert hostile_wire.KEY.encode() not in found
    assert b"200 OK" in hostile_wire.answer(tiny.port, GOOD)


def test_nothing_of_a_body_stays():
    with Tiny(Gate(max_body=hostile_wire.MAX_BODY, body_s=0.1)) as tiny:
        for case in WIRE:
            if "body" in case.name or "chunks" in case.name:
                hostile_wire.answer(tiny.port, case)
        assert b"200 OK" in hostile_wire.answer(tiny.port, GOOD)
    app = tiny.server.config.app
    while not hasattr(app, "held"):
        app = app.app
    assert app.held == 0
