"""Reads one image completely or says in one line why it cannot be used; never a partial picture."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from illava_cli.errors import MediaError
from illava_cli.media.pixels import to_rgb
from illava_cli.media.sniff import sniff
from illava_cli.media.sources import Located, locate, one_line

MAX_PIXELS = 178_956_970  # PIL's own limit for calling a picture a decompression bomb
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
)

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


def read_image(source: ImageSource) -> ImageMedium:
    """Reads `source`: a path, URL, `-` (stdin), encoded bytes, a PIL image, or (H, W, 3) uint8 RGB.

    The EXIF orientation is applied and every mode becomes RGB. Of an animation the first frame is taken,
    with a warning. What was read before is returned as it is. Raises `MediaError` for anything missing,
    broken, cut off, too large, or no image.
    """
    if isinstance(source, ImageMedium):
        return source
    if isinstance(source, np.ndarray):
        name, image = "<array>", _from_array(source)
    elif isinstance(source, Image.Image):
        name = one_line(getattr(source, "filename", "") or "<image>")
        image = _finished(source, name)
    else:
        located = locate(source)
        name, image = located.name, _decoded(located)
    return ImageMedium(name, image, image.width, image.height)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise MediaError(f"<array>: has shape {array.shape} and type {array.dtype}; give (H, W, 3) uint8")
    return Image.fromarray(array)


def _decoded(located: Located) -> Image.Image:
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with warnings.catch_warnings():
        # Oversized pictures get our own message, broken metadata is no reason to talk to the user.
        warnings.simplefilter("ignore")
        try:
            with Image.open(located.path or io.BytesIO(located.data), formats=formats) as image:
                return _finished(image, located.name)
        except Image.DecompressionBombError:
            raise _too_large(located.name) from None
        except Image.UnidentifiedImageError:
            raise _not_an_image(located) from None
        except MediaError:
            raise
        except Exception as error:
            raise _damaged(located.name, error) from None


def _finished(image: Image.Image, name: str) -> Image.Image:
    """`image` loaded to the last pixel, upright and in RGB."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    try:
        _warn_if_animated(image, name)
        image.load()
        return to_rgb(_upright(image))
    except Exception as error:
        raise _damaged(name, error) from None


def _warn_if_animated(image: Image.Image, name: str) -> None:
    # MPO is a JPEG that a camera stored with a preview or a second view: not an animation.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        count = getattr(image, "n_frames", 0)
        logger.warning(
            "%s: has %s frames, only the first is used; give it as a video to use all", name, count
        )
        image.seek(0)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # The pixels are fine and only the EXIF block is broken, so there is no orientation to honour.
        return image


def _damaged(name: str, error: Exception) -> MediaError:
    """For any error of a decoder: on damaged data PIL's raise almost every type."""
    reason = one_line(error) or type(error).__name__
    return MediaError(f"{name}: the image is damaged or cut off ({reason}); get a complete copy")


def _too_large(name: str) -> MediaError:
    return MediaError(f"{name}: has over {MAX_PIXELS // 10**6} million pixels; scale it down first")


def _not_an_image(located: Located) -> MediaError:
    kind, description = sniff(located.head())
    if kind in ("mp4", "matroska", "video"):
        return MediaError(f"{located.name}: looks like {description}, not an image; give it with --video")
    if kind == "image":
        return MediaError(
            f"{located.name}: looks like {description}, but it is damaged or not supported by this Pillow; "
            "convert it to JPEG or PNG"
        )
    looks = f"looks like {description}" if description else "is in no image format known here"
    return MediaError(f"{located.name}: {looks}, not an image; give a JPEG, PNG, WebP, ... file")
