"""Turns every PIL mode into 8-bit RGB the way Hugging Face's image processors do, except that deep samples
are scaled instead of clipped to white."""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

from illava_cli.errors import MediaError
from illava_cli.media.depth import DEEP_MODES, Depth

# Whites that undeclared values are taken to be measured by, if they fill at least half of the range.
_USUAL_WHITES = (255, 1023, 4095, 16383, 65535, 2**32 - 1)
_DARK = 4095  # sixteen bits that end here look black: it may be data of 12 bits
_STRIP = 1 << 22  # pixels that are worked on at once

logger = logging.getLogger("illava")


def to_rgb(
    image: Image.Image,
    depth: Depth | None = None,
    low_bytes: Image.Image | None = None,
    name: str = "<image>",
) -> Image.Image:
    """`image` in mode RGB; transparency is composited onto white, as `transformers.convert_to_rgb` does.

    Args:
        depth: what its file declares of the samples.
        low_bytes: the low bytes of colours of 16 bits, where `depth.wide` asks for them.
        name: of the picture, in notes and errors.

    Raises:
        MediaError: no sample is a number.
        ValueError: a mode that PIL cannot convert.
    """
    depth = depth or Depth(high=65535 if image.mode.startswith("I;16") else None)
    if image.mode in DEEP_MODES or depth.view:
        return _grey(image, depth, name)
    if low_bytes is not None:
        return _colours(np.asarray(image), np.asarray(low_bytes), depth)
    key = image.info.get("transparency") if depth.key is None else depth.key
    if depth.wide and isinstance(key, tuple):
        key = tuple(value >> 8 for value in key)  # PIL kept the high bytes only
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if key is not None and image.mode in ("1", "L", "P", "RGB"):
        image.info["transparency"] = key
        image = image.convert("RGBA")
    # not by the names of the bands: Lab has one called A
    if image.mode in ("RGBA", "LA", "PA"):
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    result = Image.new("RGB", image.size)
    for box in _strips(image.size):
        strip = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        result.paste(Image.alpha_composite(white, strip).convert("RGB"), box)
    return result


def _grey(image: Image.Image, depth: Depth, name: str) -> Image.Image:
    """Samples of any type and depth, (H, W), as grey."""
    values = np.asarray(image)
    if depth.view:
        values = values.view(depth.view)
    low, high = _black_and_white(values, depth, name)
    grey = np.empty(values.shape, np.uint8)
    for _, top, _, bottom in _strips(image.size):
        strip = values[top:bottom].astype(np.float64)
        # what lies endlessly far is white; what is no number, black
        strip = np.clip(np.nan_to_num(strip, nan=low, posinf=high, neginf=low), low, high)
        scaled = np.rint((strip - low) * (255.0 / (high - low))).astype(np.uint8)
        grey[top:bottom] = 255 - scaled if depth.inverted else scaled
    if depth.key is not None:
        grey[values == depth.key] = 255
    return Image.fromarray(grey).convert("RGB")


def _black_and_white(values: np.ndarray, depth: Depth, name: str) -> tuple[float, float]:
    if depth.bits is not None:
        return 0.0, _white(values, depth)
    if depth.high is None:
        return _by_values(values, name)
    if depth.high == 65535 and values.dtype.kind == "u" and 0 < (most := int(values.max())) <= _DARK:
        logger.warning(
            "%s: its 16-bit values end at %d, which is nearly black; if white lies there, scale them or "
            "declare their bits (PNG: sBIT, TIFF: MaxSampleValue)",
            name,
            most,
        )
    return depth.low, depth.high


def _white(values: np.ndarray, depth: Depth) -> float:
    """The value of white where fewer bits than are stored are significant.

    PNG wants them to be the upper ones, with the lower ones zero or a repetition; but there are files in
    which they are simply the value, and only there do small values use the lower bits.
    """
    white = 2.0**depth.bits - 1
    if values.max() > white:
        return depth.high
    unused = 2 ** (16 - depth.bits) - 1
    return depth.high if depth.scaled and not (values & unused).any() else white


def _by_values(values: np.ndarray, name: str) -> tuple[float, float]:
    """Black and white for values of which nothing is declared: 0..1, a usual range, or from least to most."""
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise MediaError(f"{name}: holds no finite value; give a picture with something in it")
        low, high = float(finite.min()), float(finite.max())
        if low >= 0 and high <= 1:
            return 0.0, 1.0
    else:
        low, high = float(values.min()), float(values.max())
    usual = [white for white in _USUAL_WHITES if low >= 0 and white / 2 < high <= white]
    low, high = (0.0, float(usual[0])) if usual else (low, max(high, low + 1.0))
    logger.warning("%s: declares no range of values; black is taken to be %g, white %g", name, low, high)
    return low, high


def _colours(high: np.ndarray, low: np.ndarray, depth: Depth) -> Image.Image:
    """Colours of 16 bits, given as their high and low bytes (H, W, 3 or 4)."""
    values = high.astype(np.uint16) << 8 | low
    if depth.bits is None or (white := _white(values, depth)) == depth.high:
        colours = high.copy()  # as PIL reduces 16 bits
    else:
        colours = np.rint(values * (255.0 / white)).astype(np.uint8)
    if depth.key is not None:
        colours[(values[..., :3] == depth.key).all(axis=-1)] = 255
    return to_rgb(Image.fromarray(colours))


def _strips(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Boxes that cover a picture from top to bottom: whole copies of it need not fit into memory."""
    width, height = size
    rows = max(1, _STRIP // width)
    return [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
