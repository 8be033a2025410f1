"""What a picture's file says about its samples: where black and white lie, and which value is transparent.

PIL hands out deep samples as they are stored (or cut to their high bytes), without what the file declares of
them.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
_PHOTOMETRIC, _DESCRIPTION, _MIN, _MAX, _BITS = 262, 270, 280, 281, 258
_SAMPLE_FORMAT, _SIGNED_MIN, _SIGNED_MAX = 339, 340, 341
# PIL's names for samples of 16 bits in the order of the file; of colours it keeps the first byte named
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


@dataclass(frozen=True)
class Depth:
    """How the samples of one picture are to be read.

    `low` and `high` are the values of black and white, None where the file declares none. `bits` is how many
    bits of 16 are said to be significant; `scaled` says that they should be the upper ones. `view` is the
    numpy type that the samples really are of. `key` is the transparent grey, or (r, g, b), in the file's own
    samples. `wide` says that PIL would keep only the high bytes of colours whose low bytes matter.
    """

    low: float = 0.0
    high: float | None = None
    bits: int | None = None
    scaled: bool = False
    inverted: bool = False
    view: str | None = None
    key: int | tuple[int, int, int] | None = None
    wide: bool = False


def declared(image: Image.Image) -> Depth:
    """What the file behind `image`, which is not loaded yet, declares of its samples."""
    if image.format == "PNG":
        return _png(image)
    if image.format == "TIFF":
        return _tiff(image)
    if image.mode in _SIXTEEN or (image.format == "PPM" and image.mode == "I"):
        return Depth(high=65535)  # PIL scales what PPM and JPEG 2000 hold to 16 bits
    return Depth()


def keep_low_bytes(image: Image.Image) -> None:
    """Makes an unloaded picture with colours of 16 bits give their low bytes instead of the high ones."""
    tiles = []
    for codec, box, offset, args in image.tile:
        rawmode, *rest = (args,) if isinstance(args, str) else args
        swapped = rawmode[:-4] + _SWAPPED[rawmode[-4:]]
        tiles.append((codec, box, offset, swapped if isinstance(args, str) else (swapped, *rest)))
    image.tile = [
        type(tile)(*values) if hasattr(tile, "_fields") else values
        for tile, values in zip(image.tile, tiles, strict=True)
    ]


def _is_wide(image: Image.Image) -> bool:
    if image.mode not in ("RGB", "RGBA") or not image.tile:
        return False
    args = image.tile[0][3]
    rawmode = args if isinstance(args, str) else args[0]
    # premultiplied colours are divided while they are unpacked, so they have no low bytes
    return isinstance(rawmode, str) and rawmode[:-4] in ("RGB", "RGBX", "RGBA") and rawmode[-4:] in _SWAPPED


def _png(image: Image.Image) -> Depth:
    depth = significant = None
    for kind, data in _png_chunks(image):
        if kind == b"IHDR":
            depth = data[8]
        elif kind == b"sBIT" and data:
            significant = max(data)
    key = image.info.get("transparency")
    if depth is None:  # a picture in memory only
        return Depth(high=65535) if image.mode in _SIXTEEN else Depth()
    if depth < 16:
        # PIL spreads grey of 2 or 4 bits over 0..255, but not its key
        scaled = isinstance(key, int) and image.mode == "L" and depth in (2, 4)
        return Depth(key=key * 255 // (2**depth - 1)) if scaled else Depth()
    bits = significant if significant and significant < 16 else None
    wide = _is_wide(image) and (bits is not None or isinstance(key, tuple))
    return Depth(high=65535, bits=bits, scaled=True, key=key, wide=wide)


def _png_chunks(image: Image.Image) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of the chunks before the pixels, leaving the file where it stands."""
    file = getattr(image, "fp", None)
    try:
        position = file.tell()
    except (AttributeError, OSError, ValueError):
        return  # loaded and closed: what was declared is lost
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"IEND"):
                return
            if kind in (b"IHDR", b"sBIT"):
                yield kind, file.read(length)
                file.seek(4, 1)
            else:
                file.seek(length + 4, 1)
    finally:
        file.seek(position)


def _tiff(image: Image.Image) -> Depth:
    tags = image.tag_v2
    stored = _number(tags.get(_BITS)) or 1
    format_ = _number(tags.get(_SAMPLE_FORMAT)) or 1
    if image.mode == "L" and format_ == 2:
        return Depth(view="i1", **_range(tags))
    if image.mode not in DEEP_MODES:
        bits = _significant(tags, 16)
        return Depth(high=65535, bits=bits, wide=True) if bits and _is_wide(image) else Depth()
    inverted = tags.get(_PHOTOMETRIC) == 0
    if image.mode in _SIXTEEN:
        return Depth(high=2.0**stored - 1, bits=_significant(tags, stored), inverted=inverted)
    if image.mode == "I" and format_ == 1 and stored == 32:
        bits = _significant(tags, 32)
        return Depth(high=2.0**bits - 1 if bits else None, view="u4", inverted=inverted)
    return Depth(inverted=inverted, **_range(tags))


def _significant(tags: object, stored: int) -> int | None:
    """How many of the bits of a sample are used; None where that is not said, or is all of them."""
    bits = None
    # The largest value present often is what stands in the tag, so only its length counts.
    if (most := _number(tags.get(_MAX))) and most >= 1:
        bits = int(most).bit_length()
    # microscopes' OME-TIFF
    if said := re.search(r'SignificantBits="(\d{1,2})"', str(tags.get(_DESCRIPTION, ""))):
        bits = int(said[1])
    return bits if bits and bits < stored else None


def _range(tags: object) -> dict[str, float]:
    low, high = _number(tags.get(_SIGNED_MIN)), _number(tags.get(_SIGNED_MAX))
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low < high):
        return {}
    return {"low": low, "high": high}


def _number(value: object) -> float | None:
    """The tag's value, the largest where each channel has its own."""
    values = value if isinstance(value, tuple) else (value,)
    numbers = [float(item) for item in values if isinstance(item, int | float)]
    return max(numbers) if numbers else None
