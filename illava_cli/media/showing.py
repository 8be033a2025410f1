"""From a decoded frame to the pixels that a player shows: opaque, in square pixels, upright."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from illava_cli.media.pixels import to_rgb

if TYPE_CHECKING:
    import av

# No camera or disc stretches its pixels more than this: what says so is a broken header.
_MAX_STRETCH = 8
_UNTURNED = ((1, 0), (0, 1))


def stretch(stream: av.VideoStream) -> Fraction:
    """Width over height of one stored pixel of `stream`; 1 where nothing (sensible) is said."""
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    return aspect if Fraction(1, _MAX_STRETCH) <= aspect <= _MAX_STRETCH else Fraction(1)


def shown(frame: av.VideoFrame, aspect: Fraction) -> np.ndarray:
    """`frame` as (H, W, 3) uint8 RGB.

    Transparency is composited onto white, as images' is. Stored pixels that are `aspect` times as wide as
    high become square: the height stays, the width is scaled. The display matrix is applied to the nearest
    quarter turn, mirroring included.
    """
    if has_alpha(frame):
        pixels = np.asarray(to_rgb(Image.fromarray(frame.to_ndarray(format="rgba"))))
    else:
        # POINT repeats chroma samples as the plain 8-bit conversion does; any smoothing would make deeper
        # formats differ from decord's pixels.
        pixels = frame.reformat(format="rgb24", interpolation="POINT").to_ndarray()
    height, width = pixels.shape[:2]
    wide = max(1, round(width * aspect))
    if wide != width:
        pixels = np.asarray(Image.fromarray(pixels).resize((wide, height), Image.Resampling.BICUBIC))
    # asked for its side data a frame becomes part of a circle: hundreds of them would wait for a collection
    tiny = frame.reformat(2, 2, "gray", interpolation="POINT")
    return _turned(pixels, _orientation(tiny))


def has_alpha(frame: av.VideoFrame) -> bool:
    """True when `frame` has a transparency of its own."""
    return any(component.is_alpha for component in frame.format.components)


def is_mirrored(frame: av.VideoFrame) -> bool:
    """True when the display matrix turns `frame` over, and does not just rotate it."""
    (a, b), (c, d) = _orientation(frame)
    return a * d - b * c < 0


def _orientation(frame: av.VideoFrame) -> tuple[tuple[int, int], tuple[int, int]]:
    """The display matrix ((a, b), (c, d)), each -1, 0 or 1: stored (x, y) is shown at (ax + cy, bx + dy)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _UNTURNED
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if max(abs(a), abs(d)) >= max(abs(b), abs(c)):
        return ((-1 if a < 0 else 1, 0), (0, -1 if d < 0 else 1))
    return ((0, -1 if b < 0 else 1), (-1 if c < 0 else 1, 0))


def _turned(pixels: np.ndarray, orientation: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    (a, b), (c, d) = orientation
    if a == 0:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[:: b + d, :: a + c])
