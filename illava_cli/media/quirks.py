"""Where PIL reads a file otherwise than its format says, before loading (`prepare`) and after (`correct`)."""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageOps

from illava_cli.media.containers import JPEG2000, open_container
from illava_cli.media.sources import Located

_BITS, _CHANNELS, _PLANAR = 258, 277, 284  # TIFF tags
_BIG_ENDIAN = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}


def prepare(image: Image.Image) -> None:
    """Names the samples of an unloaded picture as they really lie in the file."""
    if image.format == "TIFF" and image.tile:
        if image.tag_v2.get(_PLANAR) == 2 and image.tag_v2.get(_CHANNELS, 1) == 1:
            # One channel is one plane, but PIL cuts the name of its samples to the first letter.
            image.tag_v2[_PLANAR] = 1
            image._setup()
        image.tile = [_tiff_tile(tile, image) for tile in image.tile]


def correct(image: Image.Image) -> Image.Image:
    """The loaded picture as its format means it."""
    if image.format == "PSD" and image.mode == "1":
        return ImageOps.invert(image.convert("L"))  # a set bit is black
    if image.format == "PSD" and image.mode == "RGBA" and not _psd_is_transparent(image):
        return image.convert("RGB")  # the fourth channel is a selection that somebody saved
    return image


def is_deep_jpeg2000(located: Located) -> bool:
    """True for a JPEG 2000 with colours of more than 8 bits.

    PIL rounds those up without a limit: from 65408 of 65535 on, white becomes black.
    """
    head = located.data if located.data is not None else _head(located)
    start = head.find(b"\xff\x4f\xff\x51")  # where the code stream begins
    components = int.from_bytes(head[start + 40 : start + 42], "big")
    return start >= 0 and components >= 3 and head[start + 42] & 0x7F >= 8


def deep_jpeg2000(located: Located) -> Image.Image:
    """Such a picture in RGB or RGBA, by the high bytes of its colours."""
    with open_container(located, JPEG2000) as container:
        frame = next(container.decode(video=0))
        alpha = any(component.is_alpha for component in frame.format.components)
        pixels = frame.to_ndarray(format="rgba64le" if alpha else "rgb48le")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


def _head(located: Located) -> bytes:
    with open(located.path, "rb") as file:
        return file.read(1 << 16)


def _tiff_tile(tile: tuple, image: Image.Image) -> tuple:
    codec, box, offset, args = tile
    if not isinstance(args, tuple):
        return tile
    rawmode = args[0]
    if codec == "libtiff":
        # libtiff gives the machine's byte order, whatever the file's is
        if sys.byteorder == "little":
            rawmode = _BIG_ENDIAN.get(rawmode, rawmode)
    elif image.tag_v2.get(_PLANAR) == 2 and set(image.tag_v2.get(_BITS, ())) == {16} and len(rawmode) == 1:
        # planes of 16 bits are taken for planes of 8
        rawmode += ";16L" if image.tag_v2.prefix == b"II" else ";16B"
    new = (codec, box, offset, (rawmode, *args[1:]))
    return type(tile)(*new) if hasattr(tile, "_fields") else new


def _psd_is_transparent(image: Image.Image) -> bool:
    """A negative number of layers says that the first channel after the colours is transparency."""
    if not hasattr(image, "_layers_position"):
        return True  # an older PIL does not tell
    position = image._layers_position
    if position is None:
        return False
    file = image._fp
    back = file.tell()
    file.seek(position)
    count = int.from_bytes(file.read(2), "big", signed=True)
    file.seek(back)
    return count < 0
