"""The program in processes that start at once: forked from one that has imported everything already.

`python -m tests.batch.program` reads command lines (JSON lists) on stdin; for each it forks a process that
runs the program and answers with its pid, then with its exit code (negative: the signal that ended it).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Program:
    """Starts the program, one process at a time, in a folder; what it says goes to `log`."""

    def __init__(self, folder: Path):
        self.log = folder / "log.txt"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "tests.batch.program", str(self.log)]
        self._parent = subprocess.Popen(command, cwd=folder, env=environment, **pipes)

    def start(self, *arguments: str) -> int:
        """Begins a run: its pid."""
        self._parent.stdin.write(json.dumps(arguments) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def wait(self) -> int:
        """The exit code of the run, when it has ended."""
        return int(self._parent.stdout.readline())

    def run(self, *arguments: str) -> int:
        """A whole run: its exit code."""
        self.start(*arguments)
        return self.wait()

    def said(self) -> str:
        """What the last run wrote to stdout and stderr."""
        return self.log.read_text()

    def close(self) -> None:
        """No more runs."""
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()


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
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
            code = main(json.loads(line))
            sys.stdout.flush()
            os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
