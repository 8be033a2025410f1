"""Bytes that hostile clients send to a port, as a table, with the statuses that may answer each.

They are for a server that takes `KEY`, bound to 127.0.0.1, with these limits.
"""

from __future__ import annotations

import gzip
import re
import socket
from dataclasses import dataclass

MAX_BODY = 2**20
BODY_S = 2.0  # for a body, and for a head


@dataclass(frozen=True)
class Wire:
    """What is sent piece by piece, `{port}` in it being the server's, and the statuses that may answer it.

    0 is a connection that is closed without an answer.
    """

    name: str
    sent: tuple[bytes, ...]
    status: tuple[int, ...]


def answer(port: int, case: Wire) -> bytes:
    """What comes back until the server closes, or has answered as a whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            for piece in case.sent:
                connection.sendall(piece.replace(b"{port}", str(port).encode()))
        except OSError:
            pass  # it listens no more: what has it said?
        found = b""
        try:
            while part := connection.recv(2**16):
                found += part
                start, _, body = found.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", start.lower())
                if length and len(body) >= int(length[1]):
                    break
        except ConnectionResetError:
            pass
        return found


KEY = "correct-horse-battery"
PATH = b"/v1/chat/completions"


def head(
    *lines: str,
    method: bytes = b"POST",
    path: bytes = PATH,
    key: str | None = KEY,
    host: str = "localhost:{port}",
) -> bytes:
    """The head of a request, with a key, and JSON announced unless `lines` say otherwise."""
    told = [f"Host: {host}"] if host else []
    told += [f"Authorization: Bearer {key}"] if key is not None else []
    if method == b"POST" and not any(line.lower().startswith("content-type") for line in lines):
        told.append("Content-Type: application/json")
    told += lines
    return (
        method
        + b" "
        + path
        + b" HTTP/1.1\r\n"
        + "".join(f"{line}\r\n" for line in told).encode("latin-1")
        + b"\r\n"
    )


def whole(body: bytes, *lines: str, **options: object) -> tuple[bytes, ...]:
    """A request with a body."""
    return (head(*lines, f"Content-Length: {len(body)}", **options) + body,)


def keyed(*lines: str) -> tuple[bytes, ...]:
    """A request with these headers in place of the key."""
    return whole(b"{}", *lines, key=None)


ONE_CHUNK = b"10000\r\n" + bytes(2**16) + b"\r\n"
CHUNKED = "Transfer-Encoding: chunked"

WIRE = [
    Wire("no key", whole(b"{}", key=None), (401,)),
    Wire("another key", whole(b"{}", key="correct-horse-batterx"), (401,)),
    Wire("the beginning of the key", whole(b"{}", key=KEY[:-1]), (401,)),
    Wire("the key and more", whole(b"{}", key=f"{KEY}x"), (401,)),
    Wire("an empty key", whole(b"{}", key=""), (401,)),
    Wire("the key in capitals", whole(b"{}", key=KEY.upper()), (401,)),
    Wire("a key beyond ASCII", whole(b"{}", key="sch\xfcssel"), (401,)),
    Wire("a key of 40 KB", whole(b"{}", key="k" * 40_000), (401,)),
    Wire(
        "two keys, one of them right",
        keyed("Authorization: Bearer x", f"Authorization: Bearer {KEY}"),
        (401,),
    ),
    Wire("basic authentication", keyed(f"Authorization: Basic {KEY}"), (401,)),
    Wire("a key without its kind", keyed(f"Authorization: {KEY}"), (401,)),
    Wire("the key in the address", whole(b"{}", key=None, path=PATH + b"?api_key=" + KEY.encode()), (401,)),
    Wire("a way around the key", whole(b"{}", key=None, path=b"/page/..%2fv1/chat/completions"), (401,)),
    Wire("an open path by POST", whole(b"{}", key=None, path=b"/health"), (401,)),
    Wire("metrics without a key", (head(method=b"GET", path=b"/metrics", key=None),), (401,)),
    Wire("a foreign name", whole(b"{}", host="evil.example:{port}"), (403,)),
    Wire("a name that begins well", whole(b"{}", host="localhost.evil.example"), (403,)),
    Wire("a name with a user", whole(b"{}", host="localhost@evil.example"), (403,)),
    Wire("two names", whole(b"{}", "Host: evil.example"), (400,)),
    Wire("no name", whole(b"{}", host=""), (400,)),
    Wire("an announced body that is too large", (head("Content-Length: 1048577"),), (413,)),
    Wire("an announced body of 10^30", (head(f"Content-Length: {10**30}"),), (413, 400)),
    Wire("a large body in chunks", (head(CHUNKED), *[ONE_CHUNK] * 17), (413,)),
    Wire("an endless body in chunks", (head(CHUNKED), *[ONE_CHUNK] * 200), (413,)),
    Wire("many chunks of one byte", (head(CHUNKED), b"1\r\nx\r\n" * 100_000), (408,)),
    Wire("a length that lies upwards", (head("Content-Length: 100") + b"{}",), (408,)),
    Wire("a length that lies downwards", (head("Content-Length: 2") + b"{}" + b"x" * 1000,), (200,)),
    Wire("a body that never begins", (head("Content-Length: 2"),), (408,)),
    Wire("chunks that never end", (head(CHUNKED) + b"2\r\n{}\r\n",), (408,)),
    Wire("a negative length", (head("Content-Length: -1") + b"{}",), (400,)),
    Wire("a length in hexadecimal", (head("Content-Length: 0x2") + b"{}",), (400,)),
    Wire("two lengths", (head("Content-Length: 2", "Content-Length: 3") + b"{}",), (400,)),
    Wire("a chunk of a negative length", (head(CHUNKED) + b"-1\r\n",), (400, 0)),
    Wire("an unknown transfer", (head("Transfer-Encoding: gzip") + b"{}",), (400, 501)),
    Wire("a compressed body", whole(gzip.compress(bytes(2**20)), "Content-Encoding: gzip"), (415,)),
    Wire("plain text, as foreign pages send it", whole(b"{}", "Content-Type: text/plain"), (415,)),
    Wire("a form", whole(b"a=1", "Content-Type: application/x-www-form-urlencoded"), (415,)),
    Wire("JSON by another name", whole(b"{}", "Content-Type: text/plain; application/json"), (415,)),
    Wire("no type", whole(b"{}", "Content-Type:"), (415,)),
    Wire("GET where POST is meant", (head(method=b"GET"),), (405,)),
    Wire("DELETE", (head(method=b"DELETE"),), (405,)),
    Wire("TRACE", (head(method=b"TRACE"),), (405,)),
    Wire("a method that nobody knows", (head(method=b"BREW"),), (405,)),
    Wire("CONNECT", (head(method=b"CONNECT", path=b"evil.example:443"),), (405,)),
    Wire(
        "a preflight that was not asked for",
        (head("Origin: http://evil.example", method=b"OPTIONS"),),
        (405,),
    ),
    Wire("no HTTP", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),), (400, 0)),
    Wire("a line without an end", (b"GET /" + b"a" * 100_000,), (400,)),
    Wire("heads without an end", (b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000,), (400,)),
    Wire("a head that never ends", (b"GET / HTTP/1.1\r\nHost: localhost\r\n",), (0,)),
    Wire("nothing", (b"",), (0,)),
    Wire(
        "an address from elsewhere",
        (head(method=b"GET", path=b"http://evil.example/", key=None),),
        (401, 403, 404),
    ),
]
