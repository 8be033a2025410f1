"""Connections whose clients do not do their part, and answers of which nobody reads a word."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading

import uvicorn

from illava_cli.serve import protocol
from illava_cli.serve.logs import log_to_stderr
from illava_cli.serve.protocol import Protocol
from illava_cli.serve.replies import EventResponse


@contextlib.contextmanager
def served(app):
    """An application on a free port: the port."""
    config = uvicorn.Config(app, http=Protocol, log_level="critical", lifespan="off", access_log=False)
    server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def test_who_reads_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(protocol, "WRITE_S", 0.1)
    ended = threading.Event()

    async def endless(scope, receive, send):
        async def events():
            try:
                while True:
                    yield bytes(2**16)
                    await asyncio.sleep(0)
            finally:
                ended.set()

        work = asyncio.create_task(asyncio.Event().wait())
        over.append(EventResponse(events(), work, lambda *how: over.append(how), {}))
        await over.pop()(scope, receive, send)

    over: list = []
    with served(endless) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(60)
    assert over == [(499,)]


def test_what_is_no_http_is_refused_in_openais_form():
    async def nothing(scope, receive, send):
        raise AssertionError

    with served(nothing) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_an_answer_whose_client_had_gone_before_its_first_event_costs_nothing():
    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        await asyncio.sleep(0)  # here it is broken off
        raise AssertionError

    async def events():
        yield b"never asked for"

    async def respond():
        over = []
        work = asyncio.create_task(asyncio.Event().wait())
        response = EventResponse(events(), work, lambda *how: over.append(how), {})
        await response({"type": "http", "asgi": {"spec_version": "2.3"}}, gone, send)
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return work.cancelled(), over

    assert asyncio.run(respond()) == (True, [(499,)])


def test_an_answer_that_the_servers_end_breaks_off_is_no_fault_in_the_log(capsys):
    loggers = [logging.getLogger(name) for name in ("illava", "illava.serve", "uvicorn.error", "asyncio")]
    before = [(one, one.handlers, one.propagate, one.level) for one in loggers]
    try:
        log_to_stderr(quiet=False)
        for error in (asyncio.CancelledError(), KeyError("a secret")):
            logging.getLogger("uvicorn.error").error("it failed", exc_info=error)
    finally:
        for one, handlers, propagate, level in before:
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    said = capsys.readouterr().err
    assert said.count("it failed") == 1
    assert "KeyError" in said
    assert "secret" not in said
