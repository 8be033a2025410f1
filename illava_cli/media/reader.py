"""What a video decoder has to offer, so that sampling and reading are written once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np


class UnreadableFrames(Exception):
    """This decoder cannot deliver the frames exactly; `str(error)` says why. Another one may."""


class FrameReader(Protocol):
    """One opened clip. Frames are numbered in display order."""

    timestamps: Sequence[float]
    """When every frame is shown, in seconds from the start of the clip, ascending."""

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yields the frames at `indices` (ascending) as upright (H, W, 3) uint8 RGB, one at a time.

        Raises `UnreadableFrames` at the first one that cannot be decoded or is damaged.
        """
        ...
