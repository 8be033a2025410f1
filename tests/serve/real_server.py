"""The installed program, serving `tiny` on a free port: `with serving("--max-queue", "0") as server:`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.processes import Process

PROGRAM = Path(sys.executable).with_name("illava")
PATIENCE_S = 60.0  # for what must come, on a slow machine under load
ADDRESS = re.compile(r"illava: (http://\S+)/ is a page")

Figures = dict[str, float]


class RealServer:
    """A server as its users start it. `url` and `port` are there once it answers."""

    def __init__(self, *flags: str, env: dict[str, str] | None = None):
        command = [PROGRAM, "serve", "-m", "tiny", "--set", "model.device=cpu", *flags]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = Process(command, encoding="utf-8", env=env, **pipes)
        self.url = ""
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    @property
    def said(self) -> str:
        """All that it wrote so far, to either stream."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has written that."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or re.search(pattern, "".join(self._lines)), PATIENCE_S)
        found = re.search(pattern, self.said)
        assert found, f"the server never wrote {pattern!r}:\n{self.said}"
        return found

    def wait_until_ready(self) -> None:
        """Wait until it answers."""
        self.url = self.wait_for(ADDRESS.pattern)[1]
        self.until(lambda: self.get("/health").status_code == 200)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    # --- asking -----------------------------------------------------------------------------------

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE_S, **options)

    def post(self, path: str = "/v1/chat/completions", **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=PATIENCE_S, **options)

    def client(self, key: str = "none", kind: type = openai.OpenAI) -> Any:
        """OpenAI's own client; it asks once."""
        return kind(base_url=f"{self.url}/v1", api_key=key, timeout=PATIENCE_S, max_retries=0)

    def figures(self, **options: Any) -> Figures:
        """What /metrics says, by name and labels, without the program's name before them."""
        lines = self.get("/metrics", **options).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("illava_"))
        return {name.removeprefix("illava_"): float(value) for name, value in pairs}

    def until(self, true: Callable[[], Any]) -> Any:
        """Ask again and again until it is true: a server tells nobody when it has come to rest."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                if found := true():
                    return found
            except httpx.TransportError:
                found = "it does not answer"
            assert time.monotonic() < end, f"waited for in vain; last: {found}\n{self.said[-3000:]}"
            assert self.process.poll() is None, f"the server has ended:\n{self.said[-3000:]}"
            time.sleep(0.02)

    def until_figures(self, true: Callable[[Figures], Any], **options: Any) -> Figures:
        """Wait until the figures are so."""

        def found() -> Figures | None:
            figures = self.figures(**options)
            return figures if true(figures) else None

        return self.until(found)

    def until_at_rest(self) -> Figures:
        """Wait until nothing is asked, read or answered."""
        return self.until_figures(at_rest)

    # --- the process ------------------------------------------------------------------------------

    def children(self) -> list[int]:
        """Processes that it started."""
        found = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in found for pid in path.read_text().split()]

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def stop(self) -> int:
        """Ask it to end: its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end: its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._listener.join(PATIENCE_S)  # no child of it keeps the pipe
        assert not self._listener.is_alive(), "something that it started lives on"
        return code


def at_rest(figures: Figures) -> bool:
    """Whether nothing is asked, read or answered."""
    names = ("in_flight", "queue", "rows", "readers_busy", "readers_waiting", "media_held_bytes")
    return not any(figures[name] for name in names)


@contextmanager
def starting(*flags: str, env: dict[str, str] | None = None) -> Iterator[RealServer]:
    """A server that is started; whoever has it ends it, else it is killed."""
    server = RealServer(*flags, env=env)
    try:
        yield server
    finally:
        server.process.end()


@contextmanager
def serving(*flags: str, env: dict[str, str] | None = None) -> Iterator[RealServer]:
    """A server that answers. It ends at SIGTERM, by itself, and nothing of it stays."""
    with starting("--port", "0", *flags, env=env) as server:
        server.wait_until_ready()
        yield server
        assert server.process.poll() is None, f"the server has ended:\n{server.said[-3000:]}"
        children = server.children()
        assert server.stop() == 0, server.said[-3000:]
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert "Traceback" not in server.said, server.said
