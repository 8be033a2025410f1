"""A server of one answer, to which real clients speak: it reads with our reader, and has no model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from illava_cli.engine.record import Generation, Timings, Usage, VisualUsage
from illava_cli.errors import IllavaError
from illava_cli.openai.asked import Asked, Served
from illava_cli.openai.chat import ChatEvents, completion, read_chat
from illava_cli.openai.errors import error_body, error_headers
from illava_cli.openai.events import ALIVE, DONE, event
from illava_cli.openai.fields import read_body
from illava_cli.openai.responses import ResponseEvents, read_response, response
from illava_cli.text import json_text

PIECES = ("Two ", "кошки\u2028", "\n\ndata: x", "")
TEXT = "".join(PIECES)
LOGPROBS = (
    {"token": "Two ", "logprob": -0.5, "top": [{"token": "Two ", "logprob": -0.5}]},
    {"token": "кошки", "logprob": -1.5, "top": [{"token": "\ufffd", "logprob": float("-inf")}]},
)
SERVED = Served("1a2b", 1700000000, "tiny", "abc", "/merge-maps/1a2b")


def generation(text: str = TEXT, finish_reason: str | None = "stop", **more) -> Generation:
    visual = VisualUsage(729, 361, 196, 98, 14, 7, unmerged=400)
    usage = Usage(prompt_tokens=120, completion_tokens=5, visual=visual, cached_tokens=30)
    timings = Timings(media_s=0.25, ttft_s=0.5, decode_s=1.0)
    about = {"model": "tiny", "preset": "auto", "seed": 0, "config_hash": "abc", "notes": ("a note",)}
    return Generation(text, finish_reason, usage=usage, timings=timings, media_reused=1, **about, **more)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        read = {"/v1/chat/completions": read_chat, "/v1/responses": read_response}[self.path]
        try:
            asked = read(read_body(data), self.server.bounds)
        except IllavaError as error:
            status, body = error_body(error)
            return self._send(status, json_text(body).encode(), headers=error_headers(error))
        self.server.asked.append(asked)
        answer = chat if read is read_chat else respond
        told = LOGPROBS if "logprobs" in asked.settings.get("generation", {}) else None
        made = answer(asked, generation(logprobs=told, finish_reason=self.server.reason), self.server.error)
        if isinstance(made, dict):
            return self._send(200, json_text(made).encode())
        self._send(200, b"".join(made), "text/event-stream")

    def _send(self, status, data, kind="application/json", headers=()):
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Type": kind, "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def chat(asked: Asked, answer: Generation, error: Exception | None = None) -> dict | list[bytes]:
    """A chat completion, whole or as the bytes of its events."""
    if not asked.stream:
        return completion([answer] * asked.n, SERVED)
    events = ChatEvents(SERVED, asked)
    sent = [events.begin(index) for index in range(asked.n)]
    for number, piece in enumerate(PIECES):
        told = answer.logprobs[number : number + 1] if answer.logprobs else None
        sent += [events.piece(index, piece, told) for index in range(asked.n)]
    if error is not None:
        return [ALIVE, *map(event, sent), event(error_body(error)[1]), DONE]
    sent += [events.end(index, answer) for index in range(asked.n)]
    if asked.include_usage:
        sent.append(events.usage([answer] * asked.n))
    return [ALIVE, *map(event, sent), DONE]


def respond(asked: Asked, answer: Generation, error: Exception | None = None) -> dict | list[bytes]:
    """A response, whole or as the bytes of its events."""
    if not asked.stream:
        return response(answer, SERVED, asked)
    events = ResponseEvents(SERVED, asked)
    sent = events.begin()
    for number, piece in enumerate(PIECES):
        sent.append(events.piece(piece, answer.logprobs[number : number + 1] if answer.logprobs else None))
    sent += events.end(answer) if error is None else events.fail(error)
    return [ALIVE, *map(event, sent)]


@contextmanager
def answering(bounds, reason: str | None = "stop", error: Exception | None = None) -> Iterator:
    """The server; its `asked` are the requests so far, `url` is where its endpoints are."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.bounds, server.reason, server.error, server.asked = bounds, reason, error, []
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
