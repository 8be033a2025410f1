"""An answer piece by piece, for a loop or for a task."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from illava_cli.engine.generation import generation_of
from illava_cli.engine.passes import Passes
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Prepared, Request, Turn

END = object()  # no more pieces


class Asking(Protocol):
    """What a stream needs of a session."""

    passes: Passes

    def prepare(self, request: Request, *, cancel: threading.Event | None) -> Prepared:
        """A question with its media read."""

    def turn(self, prepared: Prepared, **options: Any) -> Turn:
        """A prepared question."""


class _Flow:
    """A question on its way, and what comes of it: pieces of text, then `END` or why there is none."""

    def __init__(self, session: Asking, request: Request, put: Callable[[Any], None]):
        self.session, self.request, self.put = session, request, put
        self.cancel = threading.Event()
        self.generation: Generation | None = None

    def begin(self) -> None:
        """Read the media, and have the question answered."""
        session = self.session
        prepared = session.prepare(self.request, cancel=self.cancel)
        turn = session.turn(prepared, cancel=self.cancel, on_text=lambda answer, text: self.put(text))
        session.passes.submit(turn, self._end)

    def _end(self, answers: list, error: Exception | None) -> None:
        if error is None:
            try:
                runner = self.session.passes.runner
                self.generation = generation_of(answers[0], runner.family, runner.load_seconds)
            except Exception as fault:
                error = fault
        self.put(error or END)


class Stream:
    """`for piece in session.stream(...)`; `generation` is there after the last piece."""

    def __init__(self, session: Asking, request: Request):
        self._pieces: queue.SimpleQueue = queue.SimpleQueue()
        self._flow = _Flow(session, request, self._pieces.put)
        self._over = False
        session.passes.runner.refuse_within()
        self._flow.begin()

    @property
    def generation(self) -> Generation | None:
        """The whole answer, with its counts and times."""
        return self._flow.generation

    def close(self) -> None:
        """End the answer; nobody waits for more of it."""
        self._over = True
        self._flow.cancel.set()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        piece = END if self._over else self._pieces.get()
        if isinstance(piece, str):
            return piece
        self._over = True
        if piece is END:
            raise StopIteration
        raise piece

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncStream:
    """`async for piece in session.astream(...)`; `generation` is there after the last piece."""

    def __init__(self, session: Asking, request: Request):
        self._session, self._request = session, request
        self._flow: _Flow | None = None
        self._over = False

    @property
    def generation(self) -> Generation | None:
        """The whole answer, with its counts and times."""
        return self._flow.generation if self._flow is not None else None

    async def whole(self) -> Generation:
        """The answer, when it is there."""
        async for _ in self:
            pass
        return self.generation

    async def aclose(self) -> None:
        """End the answer; nobody waits for more of it."""
        self._over = True
        if self._flow is not None:
            self._flow.cancel.set()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> str:
        if self._over:
            raise StopAsyncIteration
        try:
            if self._flow is None:
                await self._begin()
            piece = await self._pieces.get()
        except BaseException:
            await self.aclose()  # the task was cancelled, or the question cannot be asked
            raise
        if isinstance(piece, str):
            return piece
        self._over = True
        if piece is END:
            raise StopAsyncIteration
        raise piece

    async def _begin(self) -> None:
        # not `self`: a stream that nobody holds ends
        pieces = self._pieces = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(piece: Any) -> None:
            with suppress(RuntimeError):  # the loop has been closed: nobody waits
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        self._flow = _Flow(self._session, self._request, put)
        await asyncio.to_thread(self._flow.begin)

    def __del__(self) -> None:
        if self._flow is not None:
            self._flow.cancel.set()
