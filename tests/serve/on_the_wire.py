"""Requests by hand, for clients that do what no library lets them do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.serve.real_server import PATIENCE_S, RealServer

CHAT = "/v1/chat/completions"


@contextmanager
def sent(
    server: RealServer, body: dict[str, Any], path: str = CHAT, buffer: int = 0
) -> Iterator[socket.socket]:
    """A connection on which a request was sent; leaving the block leaves the server.

    Args:
        buffer: bytes that this machine takes in of the answer before it is read; 0: many.
    """
    data = json.dumps(body).encode()
    with socket.socket() as connection:
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", server.port))
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        yield connection


def read_until(connection: socket.socket, words: bytes) -> bytes:
    """What comes, up to these words or a little further."""
    found = b""
    while words not in found:
        part = connection.recv(2**16)
        assert part, f"it ended before {words!r}: {found[-500:]!r}"
        found += part
    return found


def read_whole(connection: socket.socket) -> bytes:
    """All that comes."""
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)
