"""A server that speaks as OpenAI's, without a model: it answers with the question, or as it is told to."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = Callable[["Handler", dict], None]  # how a request is answered


def completion(text: str, **more: Any) -> dict:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "x",
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    } | more


def said(body: dict) -> str:
    """The texts of a request, in one."""
    content = body["messages"][-1]["content"]
    return "".join(part.get("text", f"[{part['type']}]") for part in content)


def reply(status: int = 200, data: Any = None, **headers: str) -> Step:
    """An answer with a status; `data` as JSON, bytes as they are."""

    def step(handler: Handler, body: dict) -> None:
        handler.send(status, completion(said(body)) if data is None else data, headers)

    return step


def error(status: int, message: str, code: str = "", param: str = "", **headers: str) -> Step:
    told = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return reply(status, {"error": told}, **headers)


def drop(handler: Handler, body: dict) -> None:
    """No word, and the connection ends."""
    handler.close_connection = True


def break_off(handler: Handler, body: dict) -> None:
    """Half of what was promised."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def wait_for(event: threading.Event, then: Step | None = None) -> Step:
    """Nothing until something has happened."""

    def step(handler: Handler, body: dict) -> None:
        event.wait(60)
        (then or reply())(handler, body)

    return step


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers), None))
        self.send(200, {"object": "list", "data": [{"id": name} for name in self.server.models]}, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
            step = self.server.steps.popleft() if self.server.steps else self.server.default
        try:
            step(self, body)
        except OSError:
            self.close_connection = True  # whoever asked has gone
        finally:
            with self.server.lock:
                self.server.now -= 1

    def send(self, status: int, data: Any, headers: dict[str, str]) -> None:
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


class Fake(ThreadingHTTPServer):
    """Answers each request by the next of `steps`, and by `default` when there are none."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.models = ["fake"]
        self.seen: list[tuple[str, dict, dict | None]] = []
        self.steps: deque[Step] = deque()
        self.default: Step = reply()
        self.now = self.most = 0  # requests at once

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self) -> list[dict]:
        """The bodies of the requests."""
        return [body for _, _, body in self.seen if body is not None]


@contextmanager
def fake(port: int = 0) -> Iterator[Fake]:
    server = Fake(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
