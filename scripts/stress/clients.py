"""Clients of a server: each does what it is to do, and says how it fared."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from stress.plan import LONG, Client, Media, broken

PATH = "/v1/chat/completions"
PATIENCE_S = 900.0
MOST_TRIES = 2000  # of one that is told to come again


@dataclass
class Fate:
    """How a client fared.

    Args:
        answers: to its turns.
        errors: that came though nothing was wrong with what it asked.
        statuses: of refusals that its request deserved.
        retries: how often it was told to come again.
        first_s: seconds until its first piece, of those that read events.
    """

    client: Client
    answers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    retries: int = 0
    first_s: list[float] = field(default_factory=list)


class Clients:
    """All clients of a run."""

    def __init__(self, url: str, key: str, media: Media, endless: dict[str, int]):
        """
        Args:
            endless: the bias under which an answer does not end.
        """
        self.media, self.endless = media, endless
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits, headers=headers)

    async def run(self, clients: list[Client]) -> list[Fate]:
        """All of them at once, to their ends."""
        async with self.http:
            return await asyncio.gather(*(self._one(client) for client in clients))

    async def _one(self, client: Client) -> Fate:
        fate = Fate(client)
        try:
            if client.broken:
                await self._break(fate)
            elif client.leaves is not None:
                await self._leave(fate)
            else:
                await self._converse(fate)
        except Exception as error:
            fate.errors.append(f"{type(error).__name__}: {error}"[:300])
        return fate

    # --- those that stay --------------------------------------------------------------------------

    async def _converse(self, fate: Fate) -> None:
        messages: list[dict[str, Any]] = []
        for turn in fate.client.turns:
            messages.append({"role": "user", "content": turn.content()})
            body = {"messages": messages, **fate.client.options}
            text = await (self._streamed if fate.client.stream else self._whole)(body, fate)
            if text is None:
                return
            fate.answers.append(text)
            messages.append({"role": "assistant", "content": text})

    async def _whole(self, body: dict[str, Any], fate: Fate) -> str | None:
        for _ in range(MOST_TRIES):
            answer = await self.http.post(PATH, json=body)
            if not await self._again(answer, fate):
                break
        if answer.status_code != 200:
            fate.errors.append(f"{answer.status_code} {answer.text[:200]}")
            return None
        said = answer.json()
        fate.cached.append(said["usage"]["prompt_tokens_details"]["cached_tokens"])
        return said["choices"][0]["message"]["content"]

    async def _streamed(self, body: dict[str, Any], fate: Fate) -> str | None:
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        for _ in range(MOST_TRIES):
            began = time.perf_counter()
            async with self.http.stream("POST", PATH, json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                if await self._again(answer, fate):
                    continue
                if answer.status_code != 200:
                    fate.errors.append(f"{answer.status_code} {answer.text[:200]}")
                    return None
                return await self._pieces(answer, fate, began)
        return None

    async def _pieces(self, answer: httpx.Response, fate: Fate, began: float) -> str | None:
        text, whole = "", False
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                whole = True
                break
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                fate.errors.append(event["error"]["message"])
                return None
            if event["choices"] and (piece := event["choices"][0]["delta"].get("content")):
                if not text:
                    fate.first_s.append(time.perf_counter() - began)
                text += piece
            if event.get("usage"):
                fate.cached.append(event["usage"]["prompt_tokens_details"]["cached_tokens"])
        if not whole:
            fate.errors.append("the stream broke off")
        return text if whole else None

    async def _again(self, answer: httpx.Response, fate: Fate) -> bool:
        """Whether the server is full; waits as long as it says."""
        if answer.status_code != 429:
            return False
        fate.retries += 1
        await asyncio.sleep(float(answer.headers["retry-after"]))
        return True

    # --- those that leave, and those that send what is none ----------------------------------------

    async def _leave(self, fate: Fate) -> None:
        client = fate.client
        body = {"messages": [{"role": "user", "content": client.turns[0].content()}], **client.options}
        body |= {"max_tokens": LONG, "logit_bias": self.endless, "stream": client.stream}
        if not client.stream:
            asking = asyncio.create_task(self.http.post(PATH, json=body))
            await asyncio.wait([asking], timeout=client.leaves / 10)
            asking.cancel()
            return
        async with self.http.stream("POST", PATH, json=body) as answer:
            pieces = 0
            async for line in answer.aiter_lines():
                pieces += line.startswith("data: ")
                if pieces > client.leaves:
                    return

    async def _break(self, fate: Fate) -> None:
        body, headers = broken(fate.client.broken, self.media)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        for _ in range(MOST_TRIES):
            answer = await self.http.post(PATH, content=data, headers=headers)
            if not await self._again(answer, fate):
                break
        fate.statuses.append(answer.status_code)
        if answer.status_code not in (400, 413) or "error" not in answer.json():
            fate.errors.append(f"{fate.client.broken}: {answer.status_code} {answer.text[:200]}")
