"""A server's life: its signals, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from illava_cli.interrupts import SIGNALS
from illava_cli.serve.listening import BACKLOG
from illava_cli.serve.protocol import Protocol
from illava_cli.serve.settings import ServeOptions


class _Server(uvicorn.Server):
    """uvicorn's, whose first signal lets what is in flight come to its end, and whose second ends it."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_drain: Callable[[], None]):
        super().__init__(config)
        self.signum: int | None = None
        self._on_ready, self._on_drain = on_ready, on_drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        heard = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
        for signum in heard:
            loop.add_signal_handler(signum, self._on_signal, signum)
        yield
        for signum in heard:
            loop.remove_signal_handler(signum)

    def _on_signal(self, signum: int) -> None:
        if self.signum is not None:
            os._exit(128 + self.signum)
        self.signum, self.should_exit = signum, True
        self._on_drain()


def run(
    app: ASGIApp,
    listening: socket.socket,
    options: ServeOptions,
    on_ready: Callable[[], None],
    on_drain: Callable[[], None],
) -> None:
    """Serve until a signal, and what is in flight then to its end.

    Args:
        on_ready: told when it takes connections.
        on_drain: told of the first signal.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=options.drain_s,
    )
    asyncio.run(_Server(config, on_ready, on_drain).serve([listening]))
