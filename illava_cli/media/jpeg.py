"""Tells a JPEG that lacks only its end marker from one that is cut off."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator

from PIL import Image

from illava_cli.media.deadline import checkpoint

END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))


def with_end(data: bytes) -> bytes | None:
    """`data` with the end marker that it lacks; None when it does not lack it, or more than that.

    The decoder fills what is missing with grey and does not tell. But what it decodes from the bytes that
    follow shows: if the picture stays the same whatever those are, nothing was missing.
    """
    if data.endswith(END):
        return None
    body = data[:-1] if data.endswith(b"\xff") else data
    if not _all_scans(body):
        return None
    whole = body + END
    picture = _pixels(whole)
    return whole if all(_pixels(body + filler + END) == picture for filler in _fillers()) else None


def _fillers() -> Iterator[bytes]:
    """Eight noises; in each every restart marker comes twice, whichever is the next one."""
    for start in range(8):
        noise = random.Random(start)
        blocks = ((number + start) % 8 for number in range(16))
        yield b"".join(bytes(noise.choices(range(255), k=64)) + bytes((0xFF, 0xD0 + n)) for n in blocks)


def _pixels(data: bytes) -> bytes:
    checkpoint()
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        return hashlib.sha256(image.tobytes()).digest()


def _all_scans(data: bytes) -> bool:
    """True when scans for every coefficient of every component begin, down to the last bit."""
    wanted: set[int] = set()
    missing: set[tuple[int, int]] = set()
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] in (0x00, 0xFF, *_WITHOUT_LENGTH):
            # within the data of a scan
            following = data.find(b"\xff", position + 1)
            if following < 0:
                break
            position = following
            continue
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            wanted = {body[6 + 3 * n] for n in range(body[5]) if 6 + 3 * n < len(body)}
            missing = {(component, k) for component in wanted for k in range(64)}
        elif marker == _START_OF_SCAN and body and len(body) >= 4 + 2 * body[0]:
            first, last, precision = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if precision & 15 == 0:
                done = {body[1 + 2 * n] for n in range(body[0])}
                missing -= {(component, k) for component in done for k in range(first, last + 1)}
        position += 2 + length
    return bool(wanted) and not missing
