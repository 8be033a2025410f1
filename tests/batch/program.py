"""The program in processes that start at once: forked from one that has imported everything already.

`python -m tests.batch.program` reads command lines (JSON lists) on stdin. For each it forks a process that
runs the program. It answers with the pid, then with the exit code (negative: the signal that ended it).
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.processes import Process

ROOT = Path(__file__).parents[2]


class Program:
    """Starts the program, one process at a time, in a folder; what it says goes to `log`."""

    def __init__(self, folder: Path):
        self.log, self._running = folder / "log.txt", False
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "tests.batch.program", str(self.log)]
        self._parent = Process(command, cwd=folder, env=environment, **pipes)

    def start(self, *arguments: str) -> int:
        """Begins a run: its pid."""
        self._parent.stdin.write(json.dumps(arguments) + "\n")
        self._parent.stdin.flush()
        self._running = True
        return int(self._parent.stdout.readline())

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Waits until something has happened in the run; it is a failure if the run ends before."""
        while not happened():
            ended, _, _ = select.select([self._parent.stdout], [], [], 0.005)
            assert not ended or happened(), self.said()

    def wait(self) -> int:
        """The exit code of the run, when it has ended."""
        code = int(self._parent.stdout.readline())
        self._running = False
        return code

    def run(self, *arguments: str) -> int:
        """A whole run: its exit code."""
        self.start(*arguments)
        return self.wait()

    def said(self) -> str:
        """What the last run wrote to stdout and stderr."""
        return self.log.read_text()

    def close(self) -> None:
        """No more runs; one that a failed test has left is ended."""
        if self._running:
            self._parent.end()
        else:
            with self._parent:
                self._parent.stdin.close()


def _serve(log: str) -> None:
    import torch  # noqa: F401

    from illava_cli.cli.app import main
    from illava_cli.engine import session  # noqa: F401
    from illava_cli.models import family_class

    family_class("llava_onevision", "")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.close(0)
            code = main(json.loads(line))
            sys.stdout.flush()
            os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
