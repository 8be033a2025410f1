"""Requests to a server, streamed, each piece of the answer on the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from illava_cli.bench.serving.samples import Sample
from illava_cli.client.failures import SHOWN, told
from illava_cli.client.server import Server
from illava_cli.errors import ServerError
from illava_cli.media.download import library
from illava_cli.text import one_line

IDLE_S = 2.0  # after which a connection is not used again: servers close them by themselves
ABOUT_S = 20.0  # for what a server says of itself
START = "start one with `illava serve`, name it with --server, or have one started with -m"


class Asker:
    """Asks one server, many times at once. For one event loop."""

    def __init__(self, server: Server, fields: dict[str, Any], seconds: float):
        """
        Args:
            fields: of every request, beside its messages.
            seconds: that an answer may take.
        """
        self._http = http = library()
        self.server, self.seconds = server, seconds
        self.fields = {"stream": True, "stream_options": {"include_usage": True}, **fields}
        self._client = http.AsyncClient(
            **server.connecting(),
            timeout=None,  # each request has one for all of it
            limits=http.Limits(max_connections=None, keepalive_expiry=IDLE_S),
        )

    async def __aenter__(self) -> Asker:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def ask(self, messages: list[dict[str, Any]], sample: Sample, **fields: Any) -> Sample:
        """Ask, and fill in the sample. A failure is one of the things that are measured.

        Args:
            fields: of this request alone.
        """
        http, body = self._http, json.dumps({**self.fields, **fields, "messages": messages})
        try:
            async with asyncio.timeout(self.seconds):
                await self._ask(body, sample)
        except TimeoutError:
            sample.error, sample.message = "timeout", f"no whole answer within {self.seconds:g} s"
        except http.HTTPError as error:
            sample.error = "connection"
            sample.message = one_line(error)[:SHOWN] or type(error).__name__
        except (ValueError, AttributeError, TypeError) as error:  # no JSON, no chunk, or one of an error
            sample.error, sample.message = "broken answer", one_line(error)[:SHOWN]
        return sample

    async def _ask(self, body: str, sample: Sample) -> None:
        url = f"{self.server.url}/chat/completions"
        kind = {"Content-Type": "application/json"}
        async with self._client.stream("POST", url, content=body, headers=kind) as response:
            if response.status_code != 200:
                sample.error = f"status {response.status_code}"
                *_, sample.message = told(await response.aread())
                return
            async for data in _events(response.aiter_bytes()):
                sample.take(json.loads(data), time.perf_counter())
        sample.end()


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, up to `[DONE]`. Each is one line here, as OpenAI's are."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield data


def about(server: Server) -> dict[str, Any]:
    """What a server says of itself: `models`, by name, and `version` where it has one.

    Raises:
        ServerError: it cannot be reached, or is no such server.
    """
    http = library()
    try:
        with http.Client(**server.connecting(), timeout=ABOUT_S) as client:
            answer = client.get(f"{server.url}/models")
            if answer.status_code != 200:
                hint = "; give --server-key" if answer.status_code in (401, 403) else ""
                *_, said = told(answer.content)
                raise ServerError(f"{server.url}: answered {answer.status_code}: {said}{hint}")
            models = {one["id"]: one.get("illava") for one in answer.json()["data"]}
            version = client.get(f"{server.url.removesuffix('/v1')}/version")
    except http.HTTPError as error:
        why = one_line(error) or type(error).__name__
        raise ServerError(f"{server.url}: cannot be reached ({why}): {START}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServerError(f"{server.url}: does not speak as OpenAI's servers do: {START}") from None
    return {"models": models, "version": _version(version)}


def _version(answer: Any) -> dict[str, str] | None:
    """What `/version` says, where there is one."""
    try:
        found = answer.json()
    except ValueError:
        return None
    said = answer.status_code == 200 and isinstance(found, dict)
    return {str(name): str(value) for name, value in found.items()} if said else None
