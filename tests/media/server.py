"""A web server on this machine for the tests, which answers as they say and keeps what it was asked."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Site:
    """What a server answers by path (all else is `otherwise`), and what it was asked: (path, headers)."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.otherwise: Answer = lambda request: request.send_error(404)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()  # set when the test is over: slow answers end
        self.address = ""

    @property
    def host(self) -> str:
        """Host and port."""
        return self.address.removeprefix("http://")

    def gives(self, path: str, data: bytes, status: int = 200, **headers: str) -> str:
        """Answers with `data`, and `Content_Length` as it is unless it is given: the address."""

        def answer(request: http.server.BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in ({"Content_Length": str(len(data))} | headers).items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(data)

        self.answers[path] = answer
        return self.address + path

    def streams(self, path: str, part: bytes, **headers: str) -> str:
        """Answers with `part` again and again, until nobody listens: the address."""

        def answer(request: http.server.BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            while not self.ended.is_set():
                request.wfile.write(part)

        self.answers[path] = answer
        return self.address + path

    def silent(self, path: str) -> str:
        """Takes the request and never answers: the address."""
        self.answers[path] = lambda request: self.ended.wait()
        return self.address + path

    def redirects(self, path: str, target: str, status: int = 302) -> str:
        """Redirects to `target`: the address."""
        return self.gives(path, b"", status, Location=target)

    def drips(self, path: str) -> tuple[str, threading.Event]:
        """Sends one byte of many, and no other until the test is over: address, and when that one is sent."""
        sent = threading.Event()

        def answer(request: http.server.BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"\x89")
            sent.set()
            self.ended.wait()

        self.answers[path] = answer
        return self.address + path, sent


@contextmanager
def serving() -> Iterator[Site]:
    """A server on a free port of 127.0.0.1, until the end of the block."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            site.answers.get(self.path, site.otherwise)(self)

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            pass  # who asked has gone

    with Server(("127.0.0.1", 0), Handler) as server:
        site.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            site.ended.set()
            server.shutdown()
            thread.join()
