"""What a video decoder has to offer, so that sampling and reading are written once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from illava_cli.errors import MediaError
from illava_cli.media.sources import Located


class UnreadableFrames(Exception):
    """This decoder cannot deliver the frames exactly; `str(error)` says why. Another one may."""


class FrameReader(Protocol):
    """One opened clip. Frames are numbered in display order."""

    timestamps: Sequence[float]
    """Presentation time of every frame in seconds, ascending, the first at 0."""

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yields the frames at `indices` (ascending) as upright (H, W, 3) uint8 RGB, one at a time.

        Raises `UnreadableFrames` at the first one that cannot be decoded.
        """
        ...

    def decodable(self) -> list[int]:
        """The indices that do decode, found by decoding the whole clip."""
        ...


def no_video_stream(located: Located) -> MediaError:
    """The one message for a file that a decoder opens without finding pictures in it."""
    return MediaError(f"{located.name}: has no video stream; give a file with pictures")
