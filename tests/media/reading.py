"""How clips and pictures are read in tests, and what is read off them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from illava_cli.media import read_image
from tests.media_files import frame_number

SIZE = (128, 96)


def numbers(medium) -> list[int]:
    return [frame_number(frame) for frame in medium.frames]


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixel(data: bytes) -> tuple[int, int, int]:
    medium = read_image(data)
    assert medium.image.mode == "RGB"
    return medium.image.getpixel((0, 0))


def close(left: object, right: object, tolerance: int = 6) -> bool:
    return bool(np.abs(np.asarray(left, int) - np.asarray(right, int)).max() <= tolerance)
