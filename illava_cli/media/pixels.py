"""Turns every PIL mode into 8-bit RGB the way Hugging Face's image processors do, except that deep
greyscale is scaled instead of clipped to white."""

from __future__ import annotations

import numpy as np
from PIL import Image

_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` in mode RGB; transparency is composited onto white, as `transformers.convert_to_rgb` does.

    Raises `ValueError` for a mode that PIL cannot convert.
    """
    if image.mode in _DEEP_MODES:
        return Image.fromarray(_eight_bit(np.asarray(image))).convert("RGB")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Greyscale (H, W) of any depth as uint8.

    The range is 0..1 for floats that stay within it, else 0..65535 (16-bit data, which PIL also hands
    out as 32-bit integers) or 0..255 for floats; values outside that stretch from minimum to maximum.
    """
    is_float = values.dtype.kind == "f"
    values = np.nan_to_num(values.astype(np.float64))
    low, high = values.min(), values.max()
    if is_float:
        floor, ceiling = 0.0, 1.0 if high <= 1 else 255.0
    else:
        floor, ceiling = 0.0, 65535.0
    if low < floor or high > ceiling:
        floor, ceiling = low, max(high, low + 1.0)
    return np.rint((values - floor) * (255.0 / (ceiling - floor))).astype(np.uint8)
