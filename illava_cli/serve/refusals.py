"""Requests that are refused before they reach the application: in OpenAI's form, and so that it is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from illava_cli.openai.errors import RequestError, error_body, error_headers

LINGER_S = 2.0  # for what a client still sends: where it is cut off at once, it may never read the answer


def path_of(scope: Scope) -> str:
    """The path as routes have it, without the prefix that a proxy leaves away."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def has_body(headers: Headers) -> bool:
    """Whether a request says that something follows."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def refuse(
    scope: Scope, receive: Receive, send: Send, error: RequestError, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Answer with an error. A connection on which a body may yet come is closed: it could go on for ever."""
    status, body = error_body(error)
    data = json.dumps(body).encode()
    closing = has_body(Headers(scope=scope))
    told = [("content-type", "application/json"), ("content-length", str(len(data))), *headers]
    told += error_headers(error).items()
    told += [("connection", "close")] if closing else []
    raw = [(name.lower().encode(), value.encode()) for name, value in told]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": data, "more_body": closing})
    if closing:
        await _linger(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _linger(receive: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
