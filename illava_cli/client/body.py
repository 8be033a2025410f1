"""A question as the messages of a request: text and media in their order, local media as data: URLs."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image

from illava_cli.engine.markers import KINDS, check_places, check_text, placed, replaced
from illava_cli.media import Located, locate, name_of, sniff, within
from illava_cli.media.deadline import MAX_BYTES, too_long
from illava_cli.media.sources import kind_of

# by what the first bytes are; servers look at these, and at the bytes again
TYPES = {
    "a JPEG image": "image/jpeg",
    "a PNG image": "image/png",
    "a GIF image": "image/gif",
    "a WebP image": "image/webp",
    "a BMP image": "image/bmp",
    "a TIFF image": "image/tiff",
    "an AVIF image": "image/avif",
    "a HEIC image": "image/heic",
    "a HEIF image": "image/heif",
    "an MP4/MOV video": "video/mp4",
    "a Matroska/WebM video": "video/webm",
    "an AVI video": "video/x-msvideo",
    "an MPEG video": "video/mpeg",
}
ANY = {"image": "image/jpeg", "video": "video/mp4"}  # of what is not known: its decoder will


def messages(
    prompt: str,
    images: Sequence[Any],
    videos: Sequence[Any],
    system: str | None = None,
    seconds: float | None = None,
) -> list[dict[str, Any]]:
    """A conversation of one question.

    Args:
        prompt: `<image>` and `<video>` in it place the media, else these come first.
        images, videos: sources, see `illava_cli.media.sources`, of which addresses are left to the server;
            PIL images and arrays; frames in a list or an array.
        seconds: that reading a medium may take.

    Raises:
        UsageError: more markers than media.
        MediaError, Timeout: a medium cannot be read.
    """
    check_text(prompt, "the prompt")
    waiting = {"image": list(images), "video": list(videos)}
    for kind, media in waiting.items():
        check_places(prompt, kind, len(media))
    content: list[dict[str, Any]] = []

    def medium(kind: str) -> str:
        content.append(part(kind, waiting[kind].pop(0), seconds))
        return ""

    def text(words: str) -> str:
        if words:
            content.append({"type": "text", "text": words})
        return ""

    marked = placed(prompt)
    for kind in KINDS:
        for _ in range(len(waiting[kind]) - marked.count(kind)):
            medium(kind)
    replaced(prompt, medium, text)
    asked = [{"role": "user", "content": content}]
    return asked if system is None else [{"role": "system", "content": system}, *asked]


def part(kind: str, source: Any, seconds: float | None = None) -> dict[str, Any]:
    """A medium as a part of a message.

    Raises:
        MediaError, Timeout: it cannot be read.
    """
    if isinstance(source, str) and kind_of(source) == "http":
        url = source
    elif not isinstance(source, str | bytes | os.PathLike | Located):
        url = _drawn(source)
    else:
        url = within(lambda: _packed(kind, locate(source)), name_of(source), seconds)
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def _packed(kind: str, located: Located) -> str:
    """A medium as a data: URL."""
    if located.path is not None and located.path.stat().st_size > MAX_BYTES:
        raise too_long(located.name, MAX_BYTES)
    data = located.read()
    type = TYPES.get(sniff.sniff(data[: sniff.HEAD_BYTES])[1], ANY[kind])
    return f"data:{type};base64,{base64.b64encode(data).decode()}"


def _drawn(source: Any) -> str:
    """A picture, or frames, as a PNG; of several the animated form, in which nothing is lost."""
    frames = source if isinstance(source, tuple | list) else [source] if hasattr(source, "save") else None
    if frames is None:  # an array (H, W, 3), or of frames (T, H, W, 3)
        frames = list(source) if source.ndim == 4 else [source]
    first, *rest = [frame if hasattr(frame, "save") else Image.fromarray(frame) for frame in frames]
    file = BytesIO()
    # without durations: with them a frame that is as the one before is left out
    several = {"save_all": True, "append_images": rest, "loop": 0} if rest else {}
    first.save(file, "PNG", **several)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
