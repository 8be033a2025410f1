"""Files that say they are larger than they are, or are larger than they look."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.media_files import write_clip


def packed(image: Image.Image, format: str, **options: object) -> bytes:
    """An encoded picture."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    """A `data:` URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int = 8, colour: int = 2, *extra: bytes, rows: bytes = b"") -> bytes:
    """A PNG that says it is so large; without rows there is nothing to decode."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(extra)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def flat_png(side: int) -> bytes:
    """A PNG of side x side RGB pixels in a few hundred KB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    return png(side, side, rows=b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


def gif(width: int, height: int, frames: int = 1) -> bytes:
    """A GIF with a canvas of that size and frames of one pixel."""
    frame = b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    frame += b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def webp(width: int, height: int) -> bytes:
    """A lossless WebP's header."""
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", bits) + bytes(5)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int, height: int) -> bytes:
    """A BMP's header."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header says that size."""
    data = bytearray(packed(Image.new("RGB", (16, 16)), "JPEG", progressive=True))
    place = data.index(b"\xff\xc2") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    """A TIFF whose header says that size."""
    data = packed(Image.new("L", (8, 8)), "TIFF")
    for tag, value in ((256, width), (257, height)):
        for kind in (b"\x03\x00", b"\x04\x00"):
            place = data.find(struct.pack("<H", tag) + kind + b"\x01\x00\x00\x00")
            if place >= 0:
                entry = struct.pack("<HHII", tag, 4, 1, value)
                data = data[:place] + entry + data[place + 12 :]
    return data


def clip_with(size: tuple[int, int], folder: Path, name: str) -> Path:
    """A clip of two large frames in a few KB."""
    flat = np.zeros((size[1], size[0], 3), np.uint8)
    return write_clip(folder / name, frames=2, size=size, draw=lambda number, size: flat)


def cut(path: Path, share: float) -> bytes:
    """The beginning of a file."""
    data = path.read_bytes()
    return data[: int(len(data) * share)]
