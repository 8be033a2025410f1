"""The process that reads and does nothing else, from within.

It takes pickled `Job`s on stdin and answers with `Media` on stdout, as `pipe.py` has it. It imports no torch.
How large the tower wants a clip's frames only the model's family knows: the process asks back, once for each
size of frame, and gets (height, width) or the error to fail with.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from illava_cli.config.options import MediaOptions
from illava_cli.errors import MediaError
from illava_cli.media import name_of
from illava_cli.media.access import shown
from illava_cli.media.deadline import checkpoint
from illava_cli.readers.job import Collected, Job, Size, read
from illava_cli.readers.pipe import put

READY = "ready"  # the first message: what came before was Python starting
OUT_OF_MEMORY = 75  # the exit code where nothing could be said of it any more


def serve(memory_mb: int | None = None) -> None:
    """Answer jobs until stdin ends, or nobody listens any more.

    Args:
        memory_mb: that the process may take, in MiB; one that came near it ends after its answer, as what its
            libraries have not given back would fail the next job.
    """
    confine(memory_mb)
    try:
        _serve(memory_mb)
    except BrokenPipeError:
        os._exit(1)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def confine(memory_mb: int | None) -> None:
    """No core of this process is dumped: it holds others' pictures. And it gets no more memory than that, nor
    larger files."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is None:
        return
    # what is written to, as RLIMIT_AS also counts half a GB that libraries and threads only reserve
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
        limit, (_, most) = memory_mb << 20, resource.getrlimit(kind)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (limit, limit))


def names_of(job: Job) -> str:
    """A job's media in a message."""
    return ", ".join(shown(name_of(source)) for source in [*job.images, *job.videos])


def too_large(job: Job, memory_mb: int) -> MediaError:
    """What is said of media that a process's memory does not suffice for."""
    return MediaError(
        f"{names_of(job)}: takes more than {memory_mb} MiB of memory to decode; scale it down or send less"
    )


def ran_out(error: BaseException | None) -> bool:
    """Whether an error comes from a lack of memory, whatever a decoder made of it."""
    return any(
        isinstance(one, MemoryError)
        or "start new thread" in str(one)
        or "annot allocate memory" in str(one)
        or getattr(one, "errno", None) == errno.EFBIG  # a clip's frames beyond what is held
        for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def peak_mb() -> float:
    """The most memory that this process has had, in MiB; 0 where the system does not say."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _serve(memory_mb: int | None) -> None:
    # what a library prints must not get between the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = sys.stdin.buffer
    logger = logging.getLogger("illava")
    logger.propagate = False

    # one exchange at a time: a clip that has run out of time may be at its question yet
    exchange = threading.RLock()

    def send(message: Any) -> None:
        with exchange:
            pickle.dump(message, answers, protocol=5)
            answers.flush()

    def frame_size(size: Size, frames: int, options: MediaOptions) -> Size:
        with exchange:
            checkpoint()
            send((size, frames))
            reply = pickle.load(jobs)
        if isinstance(reply, Exception):
            raise reply
        return reply

    send(READY)
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        warnings: list[str] = []
        logger.handlers = [Collected(warnings)]
        media = read(job, frame_size)
        media.warnings = warnings
        if memory_mb is not None:
            short = ran_out(media.error)
            media.spent = short or peak_mb() > memory_mb / 2
            if short:
                media.error = too_large(job, memory_mb)
            elif media.spent and isinstance(media.error, MediaError):
                # FFmpeg also calls damaged what it has no memory for
                media.error = MediaError(
                    f"{media.error}, or decode it with more than {memory_mb} MiB of memory"
                )
        try:
            data = pickle.dumps(media.error)
            pickle.loads(data)
        except Exception:  # an error that does not survive the way
            media.error = MediaError(f"{type(media.error).__name__}: {media.error}")
        put(media, send)
        if media.spent:
            return
        del job, media  # the next may need the room
