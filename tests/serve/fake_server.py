"""A server that answers as told, for tests of the page: its files, canned streams, errors, a key.

`python -m tests.serve.fake_server` runs one to look at the page with.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import illava_cli

PAGE = Path(illava_cli.__file__).parent / "serve" / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src blob: data:; frame-src 'self'; "
    "object-src 'none'; base-uri 'none'"
)
UNMERGED, MERGED = 729, 224  # visual tokens of a picture
MERGED_TEXT = "A red circle above a blue square."
PLAIN_TEXT = "A red circle above a green square."
POLL_S = 0.02


@dataclass(frozen=True)
class Canned:
    """One answer. `held` pieces each wait for `FakeServer.release`; `pace` is seconds before each piece."""

    pieces: tuple[str, ...] = (MERGED_TEXT,)
    usage: dict[str, Any] = field(default_factory=dict)
    illava: dict[str, Any] = field(default_factory=dict)
    finish: str = "stop"
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    held: bool = False
    breaks: bool = False
    wait: float = 0.0
    pace: float = 0.0


def has_media(body: dict[str, Any]) -> bool:
    return isinstance(body["messages"][-1]["content"], list)


def usage(kept: int = MERGED, words: int = 8, cached: int = 0, unmerged: int = UNMERGED) -> dict[str, Any]:
    """An answer's usage; all that merging saves it saves within the LLM, but for a third."""
    inside = kept + 2 * (unmerged - kept) // 3 if kept < unmerged else kept
    visual = {"patches": unmerged, "vision_kept": inside, "llm_in": inside, "llm_kept": kept}
    visual |= {
        "newlines_in": 0,
        "newlines_kept": 0,
        "unmerged": unmerged,
        "saved": unmerged - kept,
        "reused": 0,
    }
    return {
        "prompt_tokens": inside + 20,
        "completion_tokens": words,
        "total_tokens": inside + 20 + words,
        "prompt_tokens_details": {"cached_tokens": cached},
        "visual_tokens": visual,
    }


def as_a_model(body: dict[str, Any], **canned: Any) -> Canned:
    """What a model that merges might say: `preset: off` says something else, `keep` decides the usage."""
    is_plain = body.get("preset") == "off"
    kept = UNMERGED if is_plain else round(UNMERGED * body["keep"]) if "keep" in body else MERGED
    text = PLAIN_TEXT if is_plain else MERGED_TEXT
    pieces = tuple(f"{' ' * bool(index)}{word}" for index, word in enumerate(text.split()))
    seen = usage(kept) if has_media(body) else usage(0, cached=kept + 34, unmerged=0)
    illava: dict[str, Any] = {"preset": "off" if is_plain else "auto", "notes": [], "timings": {}}
    if body.get("merge_map"):
        illava["merge_map"] = "/merge-maps/abc"
    return Canned(pieces, seen, illava, **canned)


class FakeServer(ThreadingHTTPServer):
    """On 127.0.0.1; `answer` gives what is said to a request's body. `asked` are the requests for answers."""

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any]], Canned] = as_a_model, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.answer = answer
        self.asked: list[dict[str, Any]] = []  # {"body": ..., "headers": ...}
        self.key: str | None = None
        self.limits: dict[str, int] = {}
        self.map = "<!doctype html><title>map</title><p>The map"
        self.refused: list[int] = []  # the status of each refusal
        self.gone = threading.Event()  # a client left before its answer's end
        self._released = threading.Semaphore(0)

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self.serve_forever, args=(POLL_S,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request["body"] for request in self.asked]

    def release(self, pieces: int = 1) -> None:
        self._released.release(pieces)

    def hold(self, client: socket.socket) -> bool:
        """Wait for `release`; false where the client has gone meanwhile."""
        while not self._released.acquire(timeout=POLL_S):
            if select.select([client], [], [], 0)[0] and not client.recv(1, socket.MSG_PEEK):
                self.gone.set()
                return False
        return True

    def handle_error(self, *_: object) -> None:
        """A browser that closes a connection is no error."""


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/v1/models":
            self.models()
        elif path.startswith("/merge-maps/"):
            self.send(self.server.map.encode(), {"Content-Type": "text/html; charset=utf-8"})
        else:
            name = path.removeprefix("/page/") if path != "/" else "index.html"
            self.file(PAGE / name)

    def file(self, path: Path) -> None:
        if path.parent != PAGE or not path.is_file():
            return self.refuse(404, f"{self.path} is not here")
        kind = f"{TYPES[path.suffix]}; charset=utf-8"
        self.send(path.read_bytes(), {"Content-Type": kind, "Content-Security-Policy": POLICY})

    def models(self) -> None:
        if self.is_allowed():
            model = {"id": "tiny", "object": "model", "created": 0, "owned_by": "illava"}
            model["illava"] = {"preset": "auto", "limits": self.server.limits}
            self.send_json({"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_allowed():
            return
        self.server.asked.append({"body": body, "headers": dict(self.headers)})
        canned = self.server.answer(body)
        if canned.status != 200:
            self.refuse(canned.status, canned.error, canned.headers)
        elif body.get("stream"):
            self.stream(canned)
        else:
            message = {"role": "assistant", "content": "".join(canned.pieces)}
            choice = {"index": 0, "message": message, "finish_reason": canned.finish}
            whole = {"object": "chat.completion", "choices": [choice], "usage": canned.usage}
            self.send_json({"id": "c", "created": 0, "model": "tiny"} | whole)

    def stream(self, canned: Canned) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        pause = threading.Event()
        pause.wait(canned.wait)
        for piece in canned.pieces:
            if canned.held and not self.server.hold(self.connection):
                return
            pause.wait(canned.pace)
            self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        if canned.breaks:
            return
        if canned.error:
            self.event({"error": {"message": canned.error, "type": "server_error"}})
        else:
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": canned.finish}]})
            self.event({"choices": [], "usage": canned.usage, "illava": canned.illava})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, chunk: dict[str, Any]) -> None:
        data = json.dumps(chunk, ensure_ascii=False).encode()
        half = len(data) // 2  # two writes: an event, or a character, may come in pieces
        for part in (b": a comment\r\n", b"data: " + data[:half], data[half:] + b"\r\n\r\n"):
            self.wfile.write(part)
            self.wfile.flush()

    def is_allowed(self) -> bool:
        key = self.server.key
        if key is None or self.headers["Authorization"] == f"Bearer {key}":
            return True
        self.refuse(401, "A valid API key is needed")
        return False

    def refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self.server.refused.append(status)
        self.send_json({"error": {"message": message, "type": "error"}}, status, headers)

    def send_json(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self.send(json.dumps(body).encode(), kind | (headers or {}), status)

    def send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Tests read `asked` instead."""


def main() -> None:
    from illava_cli.visualize.page import render
    from tests.visualize.sample_payload import image_payload

    def paced(body: dict[str, Any]) -> Canned:
        is_plain = body.get("preset") == "off"
        return as_a_model(body, wait=0.9 if is_plain else 0.3, pace=0.06 if is_plain else 0.04)

    with FakeServer(paced) as server:
        server.map = render(image_payload())
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
