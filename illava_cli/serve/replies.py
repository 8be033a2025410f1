"""How an answer on its way ends: with its text, with its client, or with the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from illava_cli.openai.errors import error_body

GONE = 499  # as nginx counts those who did not wait for their answer
STREAMED = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # no proxy holds pieces back


logger = logging.getLogger("illava.serve")


class Gone(Exception):
    """The client went away before its answer began."""


def status_of(error: Exception) -> int:
    """The status of a failure; a bug's place is logged."""
    status, _ = error_body(error)
    if status == 500:
        logger.error("a request failed", exc_info=error)
    return status


class EventResponse(StreamingResponse):
    """The events of an answer. However it ends, its work does too: also where not one of them was sent."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        work: asyncio.Task,
        over: Callable[..., None],
        headers: Mapping[str, str],
    ):
        """
        Args:
            work: what makes the answer; its result is it.
            over: told the status in the end, and the answer that there is with 200.
        """
        super().__init__(events, media_type="text/event-stream", headers={**headers, **STREAMED})
        self._work, self._over = work, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        status = GONE
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            status = 503  # the server's time to end is up
            raise
        finally:
            self._over(*self._ended(status))

    def _ended(self, status: int) -> tuple[Any, ...]:
        work = self._work
        if work.cancel() or work.cancelled():
            return (status,)
        error = work.exception()
        return (status_of(error),) if error is not None else (200, work.result())
