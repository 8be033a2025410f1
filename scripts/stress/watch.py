"""A server from without: its process, its figures, and what it holds."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("illava")
REST = ("in_flight", "queue", "rows", "readers_busy", "readers_waiting", "media_held_bytes")
PATIENCE_S = 300.0


class Watched:
    """A server that answers at `url`; `pid`: of its process, where it was started here."""

    def __init__(self, url: str, key: str = "", pid: int | None = None):
        self.url, self.key, self.pid = url, key, pid

    def figures(self) -> dict[str, float]:
        """What /metrics says, by name and labels."""
        request = urllib.request.Request(f"{self.url}/metrics")
        if self.key:
            request.add_header("authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("illava_")]
        return {name.removeprefix("illava_"): float(value) for name, value in pairs}

    def at_rest(self) -> dict[str, float]:
        """Its figures, as soon as nothing is asked, read or answered."""
        end = time.monotonic() + PATIENCE_S
        while any((figures := self.figures())[name] for name in REST) and time.monotonic() < end:
            time.sleep(0.05)
        return figures

    def held(self) -> dict[str, Any] | None:
        """Memory in MiB, threads and open files of its process, and those of its children; None: unknown."""
        if self.pid is None or not Path(f"/proc/{self.pid}/status").exists():
            return None
        children = [
            int(pid)
            for path in Path(f"/proc/{self.pid}/task").glob("*/children")
            for pid in path.read_text().split()
        ]
        return {
            "rss_mb": _status(self.pid, "VmRSS") // 1024,
            "children": len(children),
            "children_rss_mb": sum(_status(pid, "VmRSS") for pid in children) // 1024,
            "threads": _status(self.pid, "Threads"),
            "files": len(list(Path(f"/proc/{self.pid}/fd").iterdir())),
        }


def _status(pid: int, name: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return 0
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


@contextmanager
def started(flags: list[str]) -> Iterator[Watched]:
    """A server on a free port, until the end of the block. It must end by itself then."""
    command = [PROGRAM, "serve", "-m", "tiny", "--set", "model.device=cpu", "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if found := re.search(r"(http://\S+)/ is a page", line):
                break
        else:
            raise SystemExit("the server did not start")
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield Watched(found[1], pid=process.pid)
        process.send_signal(signal.SIGTERM)
        if process.wait(PATIENCE_S) != 0:
            raise SystemExit(f"the server ended with {process.returncode}")
        drain.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
