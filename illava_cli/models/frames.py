"""Frames of a video at the size that a tower wants. Imports no torch: reader processes use it too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from illava_cli.errors import MediaError


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame (H, W, 3) uint8 at `size` (height, width), uint8."""
    height, width = size
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def shapes(frames: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    """Height, width and colours of each frame; those of a long clip are known without reading it."""
    known = getattr(frames, "shapes", None)
    return [frame.shape for frame in frames] if known is None else known


def common_size(frames: Sequence[np.ndarray]) -> tuple[int, int]:
    """Height and width of every frame.

    Raises:
        MediaError: they differ.
    """
    found = set(shapes(frames))
    if len(found) > 1:
        raise MediaError("the frames of a video differ in size: resize them to one size first")
    return found.pop()[:2]


def padded(frames: Sequence[np.ndarray], start: int, stop: int) -> list[np.ndarray]:
    """Frames `start` to `stop`, past the end the last one again; no others are read."""
    last = len(frames) - 1
    return [frames[min(place, last)] for place in range(start, stop)]


def stacked(frames: Sequence[np.ndarray], start: int, stop: int) -> np.ndarray:
    """(T, H, W, 3) the same, copied."""
    return np.stack(padded(frames, start, stop))
