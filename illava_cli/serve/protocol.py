"""Connections on which nothing comes, or goes: uvicorn would wait for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from illava_cli.openai.errors import body_of

HEAD_S = 30.0  # for the head of a request, from a connection's beginning or the head's first byte
WRITE_S = 60.0  # for a client to take in what has been written


class Protocol(H11Protocol):
    """uvicorn's, for `uvicorn.Config(http=Protocol)`, that closes connections without a request in time, and
    those whose client reads nothing."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless that was the end of a head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        self._written()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        # no `close`, which would wait for it as well
        self._unread = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        self._written()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as all that is refused."""
        data = json.dumps(body_of("this is no valid HTTP request", 400)).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(data))),
            ("connection", "close"),
        ]
        for part in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=data),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(part))
        self.transport.close()

    def _written(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEAD_S, self.transport.abort)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
