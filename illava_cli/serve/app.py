"""The routes: what comes by HTTP, to the service, and its answers back."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from illava_cli import __version__
from illava_cli.engine.session import Session
from illava_cli.openai.asked import Served
from illava_cli.openai.errors import RequestError, error_body, error_headers
from illava_cli.openai.fields import read_body
from illava_cli.serve.endpoints import CHAT, END, RESPONSES, Endpoint, flow
from illava_cli.serve.metrics import Metrics
from illava_cli.serve.replies import GONE, EventResponse, Gone, status_of
from illava_cli.serve.service import Answered, Piece, Service
from illava_cli.serve.sessions import served_name
from illava_cli.serve.settings import ServeOptions

PAGE = files(__package__) / "page"
MOST_CHARS = 1 << 20  # of a request's texts
LARGE = 1 << 20  # bytes of a body that is read in a thread
# a map is a page of its own: its script runs, cut off from all that is the server's
MAP_HEADERS = {
    "content-security-policy": "sandbox allow-scripts; default-src 'none'; img-src data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'self'",
    "x-frame-options": "SAMEORIGIN",
    "cache-control": "private, max-age=600",
}
WORDS = {
    404: "there is nothing here: the API is below /v1, and described at /docs",
    405: "there is something here, but not by this method",
}

logger = logging.getLogger("illava.serve")


def create_app(session: Session, options: ServeOptions) -> ASGIApp:
    """The application behind its gate."""
    model = str(session.config.model.id)
    names = tuple(dict.fromkeys((options.name or model, model)))
    metrics = Metrics()
    # what cannot fit into the context is not made into tokens first, which takes seconds a megabyte
    longest = max(map(len, session.family.tokenizer.get_vocab()))
    most = min(MOST_CHARS, session.context_length * longest)
    options = replace(options, bounds=replace(options.bounds, max_chars=most))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(session, options, metrics)
        try:
            yield
        finally:
            await app.state.service.close()

    app = FastAPIOffline(title="illava", version=__version__, lifespan=lifespan)
    created = int(time.time())
    about = {
        "id": names[0],
        "object": "model",
        "created": created,
        "owned_by": "illava",
        "illava": {
            "preset": session.config.preset,
            "context": session.context_length,
            "limits": {
                "pixels": int(session.config.media.max_megapixels * 1e6),
                "media_bytes": options.access.max_bytes,
                "body_bytes": options.gate.max_body,
            },
        },
    }

    def endpoint(kind: Endpoint) -> Callable:
        async def answer(request: Request) -> Response:
            return await _answer(app, kind, request, names, options)

        return answer

    for kind in (CHAT, RESPONSES):
        app.post(kind.path, openapi_extra=kind.described(), name=kind.name)(endpoint(kind))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [about]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        served_name(name, names)
        return about

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        draining = app.state.service.draining
        return JSONResponse({"status": "draining" if draining else "ready"}, 503 if draining else 200)

    @app.get("/version")
    async def versions() -> dict[str, str]:
        return {"version": __version__} | {name: version(name) for name in ("torch", "transformers")}

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/merge-maps/{name}", include_in_schema=False)
    async def merge_map(name: str) -> Response:
        page = app.state.service.maps.get(name)
        if page is None:
            raise RequestError("this merge map is not kept any more: ask again", status=404)
        return HTMLResponse(page, headers=MAP_HEADERS)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(str(PAGE / "index.html"))

    app.mount("/page", StaticFiles(directory=str(PAGE)))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestError, lambda request, error: _failure(error))
    app.add_exception_handler(Exception, lambda request, error: _failure(error))
    return options.gate.around(app)


async def _answer(
    app: FastAPI, kind: Endpoint, request: Request, names: tuple[str, ...], options: ServeOptions
) -> Response:
    """A request to one of the endpoints that answer."""
    service: Service = app.state.service
    started, id = time.perf_counter(), secrets.token_hex(12)
    work: asyncio.Task | None = None

    def over(status: int, answered: Answered | None = None) -> None:
        service.metrics.requests.labels(kind.path, status).inc()
        tokens = sum(one.usage.completion_tokens for one in answered.generations) if answered else 0
        seconds = time.perf_counter() - started
        logger.info("%s %s %d, %d tokens in %.2f s", id, kind.path, status, tokens, seconds)

    try:
        body = await request.body()
        parsed = await asyncio.to_thread(read_body, body) if len(body) > LARGE else read_body(body)
        asked = kind.read(parsed, options.bounds)
        del body, parsed
        served_name(asked.model, names)
        served = Served(id, int(time.time()), names[0], service.session.config.hash())
        pieces: asyncio.Queue[Piece | object] = asyncio.Queue()
        owner = hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()
        work = asyncio.create_task(service.answer(asked, owner, pieces.put_nowait))
        work.add_done_callback(lambda _: pieces.put_nowait(END))
        async with _while_there(request, work):
            if not asked.stream:
                answered = await work
            elif (first := await pieces.get()) is END:
                work.result()  # what failed before its first piece has a status of its own
        if not asked.stream:
            over(200, answered)
            return JSONResponse(kind.whole(answered, served, asked), headers={"x-request-id": id})
        events = kind.stream(served, asked, flow(pieces, first), work)
        return EventResponse(events, work, over, {"x-request-id": id})
    except Gone:
        over(GONE)
        return Response(status_code=GONE)  # nobody reads it
    except asyncio.CancelledError:  # the server's time to end is up
        error = RequestError("the server has ended: try again", code="cancelled", status=503)
    except Exception as failed:
        error = failed
    if work is not None:
        work.cancel()
    over(error_body(error)[0])
    return _failure(error)


@asynccontextmanager
async def _while_there(request: Request, work: asyncio.Task) -> AsyncIterator[None]:
    """As long as the client is there; when it goes, its work ends, and the block as `Gone`."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        work.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if watching.done():
            raise Gone from None
        raise
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def _failure(error: Exception) -> Response:
    return JSONResponse(error_body(error)[1], status_of(error), headers=error_headers(error))


async def _http_error(request: Request, error: HTTPException) -> Response:
    words = WORDS.get(error.status_code, str(error.detail))
    return _failure(RequestError(words, status=error.status_code))
