"""The bound on the pixels of one picture or frame, held before any is decoded."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from PIL import Image

from illava_cli.errors import MediaError

_SCALES = (2, 4, 8)  # that a JPEG and a JPEG 2000 can be decoded at

logger = logging.getLogger("illava")


def check_pixels(name: str, width: int, height: int, max_megapixels: float) -> None:
    """Raises `MediaError` for a picture or frame of more than `max_megapixels` million pixels."""
    if width * height > max_megapixels * 1e6:
        raise MediaError(
            f"{name}: has {width}x{height} pixels, over the limit of {max_megapixels:g} million; "
            "scale it down (--max-megapixels raises the limit)"
        )


def fit(image: Image.Image, name: str, max_megapixels: float) -> int:
    """Has an image over the limit, not loaded yet, decoded at 1/2, 1/4 or 1/8 of its size, where it can be.

    Returns the divisor, 1 within the limit. Raises `MediaError` for one that cannot be decoded smaller.
    """
    width, height = image.size
    limit = max_megapixels * 1e6
    scale = next((s for s in (1, *_SCALES) if -(-width // s) * -(-height // s) <= limit), None)
    if scale is None or not (scale == 1 or _reduce(image, scale)):
        check_pixels(name, width, height, max_megapixels)
    return scale


def note_reduced(name: str, size: tuple[int, int], scale: int, max_megapixels: float) -> None:
    """Says that a picture of `size` was read at 1/`scale` of it."""
    logger.warning(
        "%s: has %dx%d pixels, over the limit of %g million; read at 1/%d of its size "
        "(--max-megapixels raises the limit)",
        name,
        *size,
        max_megapixels,
        scale,
    )


def _reduce(image: Image.Image, scale: int) -> bool:
    """Asks the decoder of `image` for 1/`scale` of width and height; False where it cannot."""
    if not image.tile:
        return False
    if image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
        # a progressive one has all its coefficients in memory, whatever size is wanted
        image.draft(None, (image.width // scale, image.height // scale))
        return True
    if image.format == "JPEG2000":
        image.reduce = scale.bit_length() - 1
        return True
    return False


_guard = threading.Lock()
_lifted = 0
_kept: int | None = None


@contextlib.contextmanager
def without_pil_limit() -> Iterator[None]:
    """PIL's own limit is off within; other threads may be within at the same time."""
    global _lifted, _kept
    with _guard:
        if not _lifted:
            _kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _lifted += 1
    try:
        yield
    finally:
        with _guard:
            _lifted -= 1
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = _kept
