"""Media as a configuration wants them read: which frames, how large, in which time. Imports no torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from illava_cli.config.options import MediaOptions
from illava_cli.media import ImageMedium, Located, VideoMedium, name_of, read_image, read_video, within
from illava_cli.media.deadline import checkpoint

DEFAULT_FRAMES = 32
STORED = str | os.PathLike | bytes | bytearray | memoryview | Located  # has to be found and decoded yet

T = TypeVar("T")


def sampling(options: MediaOptions) -> dict[str, Any]:
    """Which frames of a video are read, and by what: the options of `read_video`."""
    return {
        "num_frames": options.num_frames if options.num_frames or options.fps else DEFAULT_FRAMES,
        "fps": options.fps,
        "start": options.start,
        "end": options.end,
        "backend": options.video_backend,
        "max_megapixels": options.max_megapixels,
    }


def read_picture(source: Any, options: MediaOptions, cancel: threading.Event | None = None) -> ImageMedium:
    """An image.

    Args:
        cancel: set it to give up.

    Raises:
        MediaError: it cannot be read, or not in time.
        Cancelled: it was given up.
    """
    return _in_time(
        lambda: read_image(source, max_megapixels=options.max_megapixels), source, options, cancel
    )


def read_clip(
    source: Any,
    options: MediaOptions,
    transform: Callable[[np.ndarray], Any] | None,
    cancel: threading.Event | None = None,
) -> VideoMedium:
    """The frames of a clip, each through `transform`, if there is one, as soon as it is decoded.

    Args:
        cancel: set it to give up.

    Raises:
        MediaError: it cannot be read, or not in time.
        Cancelled: it was given up.
    """

    def transformed(frame: np.ndarray) -> Any:
        checkpoint()
        return frame if transform is None else transform(frame)

    return _in_time(
        lambda: read_video(source, transform=transformed, **sampling(options)), source, options, cancel
    )


def _in_time(read: Callable[[], T], source: Any, options: MediaOptions, cancel: threading.Event | None) -> T:
    if not isinstance(source, STORED):
        return read()
    return within(read, name_of(source), options.media_timeout, cancel)
