"""Frames of a video at the size that a tower wants. Imports no torch: reader processes use it too."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame (H, W, 3) uint8 at `size` (height, width), uint8."""
    height, width = size
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
