"""A clip as a configuration wants it read. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from illava_cli.config import MediaOptions
from illava_cli.media import VideoMedium, read_video
from illava_cli.media.deadline import checkpoint

DEFAULT_FRAMES = 32


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


def read_clip(
    source: Any, options: MediaOptions, transform: Callable[[np.ndarray], Any] | None
) -> VideoMedium:
    """The frames of a clip, each through `transform`, if there is one, as soon as it is decoded.

    Raises:
        MediaError: it cannot be read.
    """

    def transformed(frame: np.ndarray) -> Any:
        checkpoint()
        return frame if transform is None else transform(frame)

    return read_video(source, transform=transformed, **sampling(options))
