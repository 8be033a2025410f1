"""Reading and decoding one question's media: here, or as a process that does nothing else.

The process (`serve`) takes pickled `Job`s on stdin and answers on stdout. It imports no torch. How large
the tower wants a clip's frames only the model's family knows: the process asks back, once for each size
of frame, and gets (height, width) or the error to fail with.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from illava_cli.config.options import MediaOptions
from illava_cli.engine.media import read_clip, read_picture
from illava_cli.errors import MediaError
from illava_cli.media import ImageMedium, VideoMedium
from illava_cli.media.deadline import checkpoint
from illava_cli.models.frames import resized

READY = "ready"  # the first message: what came before was Python starting
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Job:
    """Media to read, and how."""

    images: list[str]
    videos: list[str]
    options: MediaOptions


@dataclass
class Media:
    """What was read of a `Job`, or why it could not be; frames are at the tower's size.

    `nbytes` is the memory that the pixels take, `seconds` the time that reading took.
    """

    images: list[ImageMedium] = field(default_factory=list)
    videos: list[VideoMedium] = field(default_factory=list)
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)
    nbytes: int = 0
    seconds: float = 0.0


class Collected(logging.Handler):
    """The package's warnings in a list."""

    def __init__(self, texts: list[str]):
        super().__init__(logging.WARNING)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def read(job: Job, frame_size: Callable[[int, int], Size], cancel: threading.Event | None = None) -> Media:
    """The media of a job; an error is part of the result.

    Args:
        frame_size: (height, width) of a clip's frames -> those that the tower wants.
        cancel: set it to give up.
    """
    started = time.perf_counter()
    media = Media()
    sizes: dict[Size, Size] = {}

    def transform(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        if (height, width) not in sizes:
            sizes[height, width] = frame_size(height, width)
        return resized(frame, sizes[height, width])

    try:
        media.images = [read_picture(source, job.options, cancel) for source in job.images]
        media.videos = [read_clip(source, job.options, transform, cancel) for source in job.videos]
    except Exception as error:
        media = Media(error=error)
    pictures = sum(3 * image.width * image.height for image in media.images)
    media.nbytes = pictures + sum(frame.nbytes for video in media.videos for frame in video.frames)
    media.seconds = time.perf_counter() - started
    return media


def serve() -> None:
    """Answer jobs until stdin ends, or nobody listens any more."""
    try:
        _serve()
    except BrokenPipeError:
        os._exit(1)


def _serve() -> None:
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

    def frame_size(height: int, width: int) -> Size:
        with exchange:
            checkpoint()
            send((height, width))
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
        try:
            data = pickle.dumps(media.error)
            pickle.loads(data)
        except Exception:  # an error that does not survive the way
            media.error = MediaError(f"{type(media.error).__name__}: {media.error}")
        send(media)
