"""The endpoints that answer: how each reads a request, and how it says the answer, whole or in events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from illava_cli.openai import chat, responses
from illava_cli.openai.asked import Asked, Bounds, Served
from illava_cli.openai.chat import ChatEvents
from illava_cli.openai.errors import error_body
from illava_cli.openai.events import ALIVE, DONE, event
from illava_cli.openai.responses import ResponseEvents

if TYPE_CHECKING:
    from illava_cli.serve.service import Answered, Piece

END = object()  # no more pieces
ALIVE_S = 15.0  # without a piece, after which a stream says that it lives

Pieces = AsyncIterator["Piece | None"]  # None: nothing for a while


@dataclass(frozen=True)
class Endpoint:
    """One of the endpoints.

    Args:
        read: the body of a request -> what is asked.
        fields: that a request may have, for the description.
        whole: the answers -> the body.
        stream: the pieces of the answers, and when they ended all of them -> events.
    """

    path: str
    name: str
    read: Callable[[dict, Bounds], Asked]
    fields: tuple[str, ...]
    whole: Callable[[Answered, Served, Asked], dict[str, Any]]
    stream: Callable[[Served, Asked, Pieces, asyncio.Task], AsyncIterator[bytes]]

    def described(self) -> dict[str, Any]:
        """What OpenAPI says of a request; what its fields hold, OpenAI's own description does."""
        schema = {
            "type": "object",
            "properties": {name: {} for name in self.fields},
            "required": [self.fields[0]],
        }
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def with_map(served: Served, answered: Answered) -> Served:
    """What an answer says of itself, with where its merge map is found."""
    return served if answered.map is None else replace(served, merge_map=f"/merge-maps/{answered.map}")


# --- chat completions -----------------------------------------------------------------------------


def _completion(answered: Answered, served: Served, asked: Asked) -> dict[str, Any]:
    return chat.completion(answered.generations, with_map(served, answered))


async def _chunks(served: Served, asked: Asked, pieces: Pieces, work: asyncio.Task) -> AsyncIterator[bytes]:
    events = ChatEvents(served, asked)
    for index in range(asked.n):
        yield event(events.begin(index))
    async for piece in pieces:
        yield ALIVE if piece is None else event(events.piece(piece.index, piece.text, piece.logprobs))
    try:
        answered = work.result()
    except Exception as error:
        yield event(error_body(error)[1])
        return
    events.served = with_map(served, answered)
    for index, generation in enumerate(answered.generations):
        yield event(events.end(index, generation))
    if asked.include_usage:
        yield event(events.usage(answered.generations))
    yield DONE


# --- responses ------------------------------------------------------------------------------------


def _response(answered: Answered, served: Served, asked: Asked) -> dict[str, Any]:
    return responses.response(answered.generations[0], with_map(served, answered), asked)


async def _events(served: Served, asked: Asked, pieces: Pieces, work: asyncio.Task) -> AsyncIterator[bytes]:
    events = ResponseEvents(served, asked)
    for one in events.begin():
        yield event(one)
    async for piece in pieces:
        yield ALIVE if piece is None else event(events.piece(piece.text, piece.logprobs))
    try:
        answered = work.result()
    except Exception as error:
        for one in events.fail(error):
            yield event(one)
        return
    events.served = with_map(served, answered)
    for one in events.end(answered.generations[0]):
        yield event(one)


CHAT = Endpoint(
    path="/v1/chat/completions",
    name="chat completion",
    read=chat.read_chat,
    fields=("messages", *chat.KNOWN),
    whole=_completion,
    stream=_chunks,
)
RESPONSES = Endpoint(
    path="/v1/responses",
    name="response",
    read=responses.read_response,
    fields=("input", *responses.KNOWN),
    whole=_response,
    stream=_events,
)


async def flow(queue: asyncio.Queue, first: Any) -> Pieces:
    """The pieces of a queue, up to `END`."""
    piece = first
    while piece is not END:
        yield piece
        try:
            piece = await asyncio.wait_for(queue.get(), ALIVE_S)
        except TimeoutError:
            piece = None
