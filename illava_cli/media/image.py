"""Reads one image completely or says in one line why it cannot be used; never a partial picture."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from illava_cli.config.options import MAX_MEGAPIXELS
from illava_cli.errors import MediaError
from illava_cli.media import depth, jpeg, quirks
from illava_cli.media.limits import check_pixels, fit, note_reduced, without_pil_limit
from illava_cli.media.pixels import to_rgb
from illava_cli.media.sniff import HEIF, sniff
from illava_cli.media.sources import Located, locate
from illava_cli.text import one_line

# An explicit list keeps out PIL's plugins that start other programs (EPS) or accept almost any bytes (TGA).
_FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "ICO",
    "PSD",
    "QOI",
    "HEIF",
)

ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_OTHERS = dict.fromkeys(ANIMATED, "frames, only the first is used; give it as a video to use all")
_OTHERS["TIFF"] = "pages, only the first is used; save each as a picture of its own to use all"
_OTHERS["HEIF"] = "pictures, only the main one is used; save each as a picture of its own to use all"

logger = logging.getLogger("illava")
# PIL logs some damage besides raising; without any handler Python would write that to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class ImageMedium:
    """A decoded picture: `image` in mode RGB, `width` and `height` in pixels after orientation."""

    source: str
    image: Image.Image
    width: int
    height: int
    kind: str = field(default="image", init=False)


ImageSource = str | Path | bytes | Located | Image.Image | np.ndarray | ImageMedium


def read_image(source: ImageSource, *, max_megapixels: float = MAX_MEGAPIXELS) -> ImageMedium:
    """Reads `source`: a path, URL, `-` (stdin), encoded bytes, a PIL image, or (H, W, 3) uint8 RGB.

    The EXIF orientation is applied and every mode becomes RGB. Of several frames or pages in a file the
    first is taken, with a warning; a PIL image is used as it stands. A picture of more than
    `max_megapixels` million pixels is decoded smaller where its format can, with a warning. What was read
    before is returned as it is.

    Raises `MediaError` for anything missing, broken, cut off, too large, or no image.
    """
    if isinstance(source, ImageMedium):
        return source
    if isinstance(source, np.ndarray):
        name, image = "<array>", _from_array(source)
    elif isinstance(source, Image.Image):
        name = one_line(getattr(source, "filename", "") or "<image>")
        check_pixels(name, *source.size, max_megapixels)
        _warn_of_others(source, name)
        image = finished(source, name)
    else:
        located = locate(source)
        name, image = located.name, _decoded(located, max_megapixels)
    return ImageMedium(name, image, image.width, image.height)


@contextlib.contextmanager
def opened(located: Located) -> Iterator[Image.Image]:
    """The picture in `located`, of which only the header is read; `MediaError` when there is none."""
    Image.init()
    _support_heif(located)
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with contextlib.ExitStack() as stack:
        file = located.path or io.BytesIO(located.data)
        try:
            with quiet():
                try:
                    image = Image.open(file, formats=formats)
                except Image.DecompressionBombError:
                    stack.enter_context(without_pil_limit())
                    image = Image.open(file, formats=formats)
        except Image.UnidentifiedImageError:
            raise _not_an_image(located) from None
        except Exception as error:
            raise damaged(located.name, error) from None
        with image:
            yield image


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Oversized pictures get our own message, and broken metadata is no reason to talk to the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def finished(image: Image.Image, name: str, located: Located | None = None) -> Image.Image:
    """`image`, a picture or a frame, loaded to the last pixel, upright and in RGB.

    `located` is where it was opened from, if it can be opened again for the low bytes of deep colours.
    """
    try:
        with quiet():
            declared = depth.declared(image)
            low_bytes = _low_bytes(located) if declared.wide and located else None
            return to_rgb(_loaded(image), declared, low_bytes, name)
    except MediaError:
        raise
    except Exception as error:
        raise damaged(name, error) from None


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise MediaError(f"<array>: has shape {array.shape} and type {array.dtype}; give (H, W, 3) uint8")
    return Image.fromarray(array)


def _decoded(located: Located, max_megapixels: float) -> Image.Image:
    name = located.name
    with opened(located) as image:
        size = image.size
        if image.format == "JPEG2000" and quirks.is_deep_jpeg2000(located):
            check_pixels(name, *size, max_megapixels)
            return to_rgb(_guarded(name, quirks.deep_jpeg2000, located))
        scale = fit(image, name, max_megapixels)
        _warn_of_others(image, name)
        try:
            picture = finished(image, name, located)
            if scale > 1:
                note_reduced(name, size, scale, max_megapixels)
            return picture
        except MediaError:
            if scale > 1 and image.format == "JPEG2000":
                check_pixels(name, *size, max_megapixels)  # it does not hold that size
            if image.format not in ("JPEG", "MPO") or scale > 1:
                raise
            whole = _guarded(name, jpeg.with_end, located.read())
            if whole is None:
                raise
    logger.warning("%s: lacks its end marker, but no pixel; it may be cut off after the picture", name)
    return _decoded(Located(name, data=whole), max_megapixels)


def _low_bytes(located: Located) -> Image.Image:
    with opened(located) as image:
        depth.keep_low_bytes(image)
        return _loaded(image)


def _loaded(image: Image.Image) -> Image.Image:
    quirks.prepare(image)
    image.load()
    return _upright(quirks.correct(image))


def _guarded(name: str, decode: Callable, data: object) -> Any:
    try:
        with quiet():
            return decode(data)
    except Exception as error:
        raise damaged(name, error) from None


def _warn_of_others(image: Image.Image, name: str) -> None:
    """Says what else a file holds besides the one picture that is taken."""
    # A JPEG with a preview or a second view (MPO) and a PSD with its layers are one picture.
    words = _OTHERS.get(image.format)
    try:
        with quiet():
            others = words and getattr(image, "is_animated", False)
            count = image.n_frames if others else 1
        if count > 1 and (image.tell() == 0 or image.format == "HEIF"):
            logger.warning(f"%s: has %s {words}", name, count)
    except Exception as error:
        raise damaged(name, error) from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # The pixels are fine and only the EXIF block is broken, so there is no orientation to honour.
        return image.copy()


def damaged(name: str, error: Exception) -> MediaError:
    """For any error of a decoder: on damaged data PIL's raise almost every type."""
    reason = one_line(error) or type(error).__name__
    return MediaError(f"{name}: the image is damaged or cut off ({reason}); get a complete copy")


def _support_heif(located: Located) -> None:
    """Teaches PIL the formats of HEIC where the head says so; `MediaError` when that cannot be."""
    _, description = sniff(located.head())
    if description not in HEIF:
        return
    try:
        import pillow_heif
    except (ImportError, OSError):
        raise MediaError(
            f"{located.name}: is {description}, which takes pillow-heif to read: pip install 'illava[heic]'"
        ) from None
    pillow_heif.register_heif_opener()


def _not_an_image(located: Located) -> MediaError:
    kind, description = sniff(located.head())
    if kind in ("mp4", "matroska", "video"):
        return MediaError(f"{located.name}: looks like {description}, not an image; give it with --video")
    if kind in ("image", "animation"):
        return MediaError(
            f"{located.name}: looks like {description}, but it is damaged or not supported by this Pillow; "
            "convert it to JPEG or PNG"
        )
    looks = f"looks like {description}" if description else "is in no image format known here"
    return MediaError(f"{located.name}: {looks}, not an image; give a JPEG, PNG, WebP, ... file")
