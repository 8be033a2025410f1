"""Reads an animated picture (GIF, WebP, APNG, AVIF) as a clip: whole frames on white, as images are."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from illava_cli.errors import MediaError
from illava_cli.media.deadline import checkpoint
from illava_cli.media.image import ANIMATED, finished, opened, quiet
from illava_cli.media.limits import check_pixels
from illava_cli.media.sniff import HEIF, sniff
from illava_cli.media.sources import Located

# Players take so short a time for one that was not thought about, and show the frame for a tenth of a second.
_HASTE_MS, _HASTY_FRAME_MS = 10, 100

logger = logging.getLogger("illava")


def open_animation(located: Located, max_megapixels: float) -> AnimationReader | None:
    """The animated picture in `located`; None for a still one, or anything else.

    A GIF is a clip with a single frame as well. Raises `MediaError` for a broken or too large one.
    """
    kind, description = sniff(located.head())
    if kind not in ("image", "animation") or description in HEIF or not _is_readable(description):
        return None
    with opened(located) as image, quiet():
        moves = image.format in ANIMATED and getattr(image, "is_animated", False)
        is_clip = image.format == "GIF" or moves
    return AnimationReader(located, max_megapixels) if is_clip else None


class AnimationReader:
    """An animated picture (see `FrameReader`)."""

    def __init__(self, located: Located, max_megapixels: float) -> None:
        """Decodes all frames once: only then is it known how long each is shown, and that it is whole."""
        self._located, self._max_megapixels = located, max_megapixels
        times, now = [], 0.0
        with opened(located) as image:
            try:
                for _ in self._frames(image):
                    with quiet():
                        image.load()
                    times.append(now / 1000)
                    duration = float(image.info.get("duration") or 0)
                    now += duration if duration > _HASTE_MS else _HASTY_FRAME_MS
            except MediaError:
                raise
            except Exception:
                # what comes after a broken frame is painted over it
                if times:
                    logger.warning("%s: is cut off; its frames that are there: %d", located.name, len(times))
        if not times:
            raise MediaError(f"{located.name}: holds no frame that decodes; get a complete copy")
        self.timestamps = tuple(times)

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader.read`."""
        wanted = set(indices)
        with opened(self._located) as image:
            for number in self._frames(image):
                if number in wanted:
                    yield np.asarray(finished(image, self._located.name))
                if number == max(wanted):
                    return

    def _frames(self, image: Image.Image) -> Iterator[int]:
        """Goes to each frame in turn and says its number."""
        # an APNG may begin with a picture for viewers that do not know of animations
        first = 1 if getattr(image, "default_image", False) else 0
        for number in itertools.count():
            checkpoint()
            try:
                with quiet():
                    image.seek(first + number)
            except EOFError:
                return
            check_pixels(self._located.name, *image.size, self._max_megapixels)
            yield number


def _is_readable(description: str) -> bool:
    # FFmpeg reads an animated AVIF where this Pillow does not
    Image.init()
    return "AVIF" not in description or "AVIF" in Image.OPEN
