"""One question's media, read and decoded: what a reader is told, and what it gives back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from illava_cli.config.options import MediaOptions
from illava_cli.engine.media import read_clip, read_picture
from illava_cli.media import EVERYTHING, Access, ImageMedium, VideoMedium
from illava_cli.models.frames import resized

Size = tuple[int, int]  # height, width
# of a clip's frames, and how many were sampled -> the size that the tower wants of them
FrameSize = Callable[[Size, int, MediaOptions], Size]


@dataclass(frozen=True)
class Job:
    """Media to read, and how; `access`: on whose behalf."""

    images: Sequence[str]
    videos: Sequence[str]
    options: MediaOptions
    access: Access = EVERYTHING


@dataclass
class Media:
    """What was read of a `Job`, or why it could not be; frames are at the tower's size.

    `nbytes` is what the pixels take, in memory and in files, `seconds` the time that reading took, `spent`:
    the process that read them has ended.
    """

    images: list[ImageMedium] = field(default_factory=list)
    videos: list[VideoMedium] = field(default_factory=list)
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)
    nbytes: int = 0
    seconds: float = 0.0
    spent: bool = False


class Collected(logging.Handler):
    """The package's warnings in a list."""

    def __init__(self, texts: list[str]):
        super().__init__(logging.WARNING)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def read(job: Job, frame_size: FrameSize, cancel: threading.Event | None = None) -> Media:
    """The media of a job; an error is part of the result.

    Args:
        cancel: set it to give up.
    """
    started = time.perf_counter()
    media = Media()
    sizes: dict[tuple[Size, int], Size] = {}

    def transform(frame: np.ndarray, count: int) -> np.ndarray:
        about = frame.shape[:2], count
        if about not in sizes:
            sizes[about] = frame_size(*about, job.options)
        return resized(frame, sizes[about])

    try:
        media.images = [read_picture(source, job.options, cancel, job.access) for source in job.images]
        media.videos = [
            read_clip(source, job.options, transform, cancel, job.access) for source in job.videos
        ]
    except Exception as error:
        media = Media(error=error)
    pictures = sum(3 * image.width * image.height for image in media.images)
    media.nbytes = pictures + sum(video.frames.nbytes for video in media.videos)
    media.seconds = time.perf_counter() - started
    return media
