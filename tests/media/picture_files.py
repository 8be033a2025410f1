"""Writes TIFF, PNG and PSD files of the kinds that PIL itself does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

_TYPES = {"B": 1, "s": 2, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9, "f": 11}


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of unsigned integers of `bits` bits, the first in the upper ones; each row ends with a byte."""
    digits = ((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(len(values), -1)
    return np.packbits(digits.astype(np.uint8), axis=1).tobytes()


def tiff(
    data: bytes,
    size: tuple[int, int],
    *,
    bits: int | Sequence[int] = 8,
    photometric: int = 1,
    sample_format: int = 1,
    planar: int = 1,
    order: str = "<",
    compressed: bool = False,
    more: Sequence[tuple[int, str, tuple]] = (),
) -> bytes:
    """A TIFF of one strip (with planar=2 one for each channel); `more` are (tag, struct letter, values)."""
    width, height = size
    bits = (bits,) if isinstance(bits, int) else tuple(bits)
    strips = [data]
    if planar == 2:
        step = len(data) // len(bits)
        strips = [data[start : start + step] for start in range(0, len(data), step)]
    strips = [zlib.compress(strip) if compressed else strip for strip in strips]
    offsets = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    tags = [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", bits),
        (259, "H", (8 if compressed else 1,)),
        (262, "H", (photometric,)),
        (273, "I", tuple(offsets)),
        (277, "H", (len(bits),)),
        (278, "I", (height,)),
        (279, "I", tuple(map(len, strips))),
        (284, "H", (planar,)),
        (339, "H", (sample_format,) * len(bits)),
        *more,
    ]
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    entries = b""
    for tag, letter, values in sorted(tags):
        value = values[0] if letter == "s" else struct.pack(f"{order}{len(values)}{letter}", *values)
        count = len(value) if letter == "s" else len(values)
        entries += struct.pack(f"{order}HHI", tag, _TYPES[letter], count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", 8 + len(body))
            body += value + b"\0" * (len(value) % 2)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return (
        start
        + struct.pack(f"{order}I", 8 + len(body))
        + body
        + struct.pack(f"{order}H", len(tags))
        + entries
        + bytes(4)
    )


def png(values: np.ndarray, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples of `depth` bits, with `chunks` before the pixels.

    `colour` is 0 for grey, 2 for RGB, 4 for grey and alpha, 6 for RGB and alpha.
    """
    height, width = values.shape[:2]
    rows = packed(values.reshape(height, -1).astype(np.int64), depth)
    step = len(rows) // height
    lines = b"".join(b"\0" + rows[start : start + step] for start in range(0, len(rows), step))
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def psd(
    channels: Sequence[bytes], size: tuple[int, int], mode: int, depth: int = 8, layers: int = 0
) -> bytes:
    """A PSD: the composite's `channels`, and `layers` empty layers (negative: the fourth is alpha)."""
    width, height = size
    layer = struct.pack(">4iH", 0, 0, 1, 1, 3)
    layer += b"".join(struct.pack(">hI", number, 3) for number in range(3))
    layer += b"8BIMnorm" + bytes((255, 0, 0, 0)) + struct.pack(">I", 0)
    info = struct.pack(">h", layers) + layer * abs(layers) + b"\0\0\7" * 3 * abs(layers)
    info += b"\0" * (len(info) % 2)
    section = struct.pack(">I", len(info)) + info if layers else b""
    return (
        b"8BPS"
        + struct.pack(">H6xHIIHH", 1, len(channels), height, width, depth, mode)
        + bytes(8)
        + struct.pack(">I", len(section))
        + section
        + bytes(2)
        + b"".join(channels)
    )
