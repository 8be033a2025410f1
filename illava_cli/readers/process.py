"""A process that reads, from without: one that dies, hangs or takes too much costs its job only."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from illava_cli.errors import MediaError, OutputError, Timeout
from illava_cli.readers.inside import OUT_OF_MEMORY, READY, names_of, too_large
from illava_cli.readers.job import FrameSize, Job, Media
from illava_cli.readers.pipe import complete

PROGRAM = "from illava_cli.readers.inside import serve; serve({memory_mb})"
PACKAGES = Path(__file__).parents[2]  # where this very package lies
OURS = ("/dev/fd/", "/dev/stdin", "/proc/self/")  # names that mean something else in every process


def is_ours(source: str) -> bool:
    """Whether only this process can read a medium: a pipe such as `<(command)`."""
    return source.startswith(OURS)


class ReaderProcess:
    """Reads one job after another in a process, which is replaced where it ended.

    `read` and `start` are for one thread at a time, `kill` for any.
    """

    def __init__(self, frame_size: FrameSize, memory_mb: int | None = None):
        """
        Args:
            memory_mb: that the process may take, in MiB.
        """
        self._frame_size, self._memory_mb = frame_size, memory_mb
        self._process: subprocess.Popen | None = None
        self._ready = self._ended = False

    def read(self, job: Job, timeout: float | None) -> Media:
        """As `job.read`; a job that takes more than `timeout` seconds fails."""
        if self._process is not None and self._process.poll() is not None and not self._ended:
            self.close()  # it was killed while it had nothing to do: this job is none the worse
        process = self._process or self._start()
        late = threading.Event()
        timer = threading.Timer(timeout, lambda: (late.set(), process.kill())) if timeout else None
        started = time.perf_counter()
        try:
            if not self._ready:
                self._ready = pickle.load(process.stdout) == READY
            if timer:
                timer.start()
            media = self._exchange(process, job)
            if media.spent or isinstance(media.error, Timeout):
                process.kill()  # what is still being read in it would slow down the next
                self.close()
            return media
        except (EOFError, OSError, pickle.UnpicklingError):
            process.kill()
            code = process.wait()
            self.close()
            if late.is_set():
                error: Exception = Timeout(f"{names_of(job)}: not read within {timeout:g} s (--timeout)")
            elif code == OUT_OF_MEMORY and self._memory_mb is not None:
                error = too_large(job, self._memory_mb)
            else:
                error = MediaError(
                    f"{names_of(job)}: the decoder {_how(code)}; get an intact copy of the file"
                )
            return Media(error=error, seconds=time.perf_counter() - started)
        except OutputError as error:
            process.kill()  # its frames would come before its next answer
            self.close()
            return Media(error=error, seconds=time.perf_counter() - started)
        finally:
            if timer:
                timer.cancel()
                if timer.ident is not None:
                    timer.join()
                if late.is_set() and self._process is not None:
                    self.close()  # killed when it had just answered: the next job needs another one

    def _exchange(self, process: subprocess.Popen, job: Job) -> Media:
        self._send(process, job)
        while True:
            answer = pickle.load(process.stdout)
            if isinstance(answer, Media):
                return complete(answer, lambda: pickle.load(process.stdout))
            try:
                reply = self._frame_size(*answer, job.options)
            except Exception as error:
                reply = error
            self._send(process, reply)

    def start(self) -> None:
        """Start the process ahead, unless it runs or was killed: its imports take part of a second."""
        if self._process is None and not self._ended:
            self._start()

    def _start(self) -> subprocess.Popen:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        # not the working directory, in which a user's file may have the name of a module
        found = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-P", "-c", PROGRAM.format(memory_mb=self._memory_mb)]
        # nothing here multiplies matrices, and threads for that would count as memory
        environment = os.environ | {"PYTHONPATH": found, "OPENBLAS_NUM_THREADS": "1"}
        # a session of its own: Ctrl-C in a terminal is for us, who finish what is in flight
        self._process = subprocess.Popen(command, start_new_session=True, env=environment, **pipes)
        if self._ended:  # meanwhile
            self._process.kill()
        return self._process

    @staticmethod
    def _send(process: subprocess.Popen, message: object) -> None:
        pickle.dump(message, process.stdin, protocol=5)
        process.stdin.flush()

    def kill(self) -> None:
        """End the process for good, whatever it is doing; `read` then fails in its thread."""
        self._ended = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """Let go of a process that has ended."""
        process, self._process, self._ready = self._process, None, False
        if process is not None:
            process.wait()
            process.stdout.close()
            with suppress(OSError):  # what was not sent cannot be any more
                process.stdin.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"
