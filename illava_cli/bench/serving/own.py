"""A server of this program's own, started to be measured and ended afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from illava_cli.errors import Cancelled, ModelError, UsageError
from illava_cli.media.download import library

HOST = "127.0.0.1"
POLL_S = 0.1
END_S = 15.0  # for what it has to end; nothing is in flight
PREFIX = "illava: error: "


class OwnServer:
    """`illava serve` on a free port, for as long as the `with` lasts."""

    def __init__(self, arguments: Sequence[str], stop: threading.Event, leave: threading.Event | None = None):
        """
        Args:
            arguments: of `illava serve`.
            stop: ends the wait for it to be ready.
            leave: ends the wait for its end, and so itself.
        """
        self.arguments, self.stop, self.leave = list(arguments), stop, leave or threading.Event()

    def __enter__(self) -> OwnServer:
        port = _free_port()
        self.url = f"http://{HOST}:{port}/v1"
        where = ["--host", HOST, "--port", str(port), "--quiet"]
        # keys of the environment would shut out whoever has none
        environment = {name: value for name, value in os.environ.items() if name != "ILLAVA_API_KEY"}
        self._said = tempfile.TemporaryFile()
        # a Ctrl-C on the terminal is for this process, which ends that one itself
        self._process = subprocess.Popen(
            [sys.executable, "-m", "illava_cli", "serve", *self.arguments, *where],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=environment,
            start_new_session=True,
        )
        try:
            self._wait(f"http://{HOST}:{port}/ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        deadline = time.monotonic() + END_S
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        while self._process.poll() is None and time.monotonic() < deadline and not self.leave.is_set():
            self.leave.wait(POLL_S / 2)
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._said.close()

    def _wait(self, url: str) -> None:
        """Until it is ready.

        Raises:
            UsageError, ModelError: it ended instead; with what it said.
            Cancelled: `stop` was set.
        """
        http = library()
        with http.Client(trust_env=False) as client:
            while True:
                if self._process.poll() is not None:
                    raise self._failure()
                with suppress(http.HTTPError):
                    if client.get(url).status_code == 200:
                        return
                if self.stop.wait(POLL_S):
                    raise Cancelled("stopped before the server was ready")

    def _failure(self) -> Exception:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        said = lines[-1].removeprefix(PREFIX) if lines else f"exit code {self._process.returncode}"
        kind = UsageError if self._process.returncode == UsageError.exit_code else ModelError
        return kind(f"illava serve: {said}")

    def cpu_seconds(self) -> float | None:
        """What it and its readers have taken of processors; None where the system does not say."""
        return cpu_seconds(self._process.pid)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind((HOST, 0))
        return held.getsockname()[1]


def cpu_seconds(process: int) -> float | None:
    """Seconds of a processor that a process and those below it, which live or were waited for, have taken."""
    found: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # after the name, which may hold anything
        except OSError:
            continue
        found[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    if process not in found:
        return None
    own, size = {process}, 0
    while len(own) > size:
        size = len(own)
        own |= {one for one, (parent, _) in found.items() if parent in own}
    return sum(found[one][1] for one in own) / os.sysconf("SC_CLK_TCK")
