"""Bodies of requests: JSON, whole, within bounds of size and time, before anything is done for them."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from illava_cli.openai.errors import RequestError
from illava_cli.serve.refusals import refuse

RETRY_S = 5.0  # after which there may be room again
WRITING = ("POST", "PUT", "PATCH")


class Bodies:
    """Hands on requests once their body is there, in one message."""

    def __init__(self, app: ASGIApp, max_body: int, max_held: int, seconds: float):
        """
        Args:
            max_body: bytes of one body.
            max_held: bytes of all together, each held from its first byte to the end of its answer.
            seconds: for one to arrive.
        """
        self.app, self.max_body, self.max_held, self.seconds = app, max_body, max_held, seconds
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope["method"], Headers(scope=scope))
            body = await self._body(receive)
        except RequestError as error:
            await refuse(scope, receive, send, error)
            return
        if body is None:
            return
        try:
            await self.app(scope, _again(body, receive), send)
        finally:
            self.held -= len(body)

    def _check(self, method: str, headers: Headers) -> None:
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.max_body:
            raise self._too_large()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        # a foreign page may have a browser send forms and plain text here, but no JSON unless it is let
        if method in WRITING and kind != "application/json":
            raise RequestError(
                "the body is no JSON: send Content-Type: application/json",
                code="unsupported_media_type",
                status=415,
            )
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise RequestError(
                "the body is compressed, which is not read here: send it as it is",
                code="unsupported_media_type",
                status=415,
            )

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None where the client has gone. Its bytes are counted in `held` unless it fails."""
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self.seconds):
                while (message := await receive())["type"] == "http.request":
                    chunks.append(message.get("body", b""))
                    self.held += len(chunks[-1])
                    if sum(map(len, chunks)) > self.max_body:
                        raise self._too_large()
                    if self.held > self.max_held:
                        raise RequestError(
                            "the server holds as many requests as it may: try again",
                            code="overloaded",
                            status=503,
                            retry_after=RETRY_S,
                        )
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            self._drop(chunks)
            raise RequestError(
                f"the body did not arrive within {self.seconds:g} s", code="body_timeout", status=408
            ) from None
        except BaseException:
            self._drop(chunks)
            raise
        self._drop(chunks)
        return None

    def _drop(self, chunks: list[bytes]) -> None:
        self.held -= sum(map(len, chunks))
        chunks.clear()  # the error holds on to this frame

    def _too_large(self) -> RequestError:
        size = f"{self.max_body / 2**20:g} MiB" if self.max_body >= 2**20 else f"{self.max_body} bytes"
        return RequestError(
            f"the body is over {size}: send smaller media, or their addresses",
            code="request_too_large",
            status=413,
        )


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body`, and then what comes after it: that the client goes away."""
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return given.pop() if given else await receive()

    return replay
