"""The content of a message: texts and media, as the clients of several servers write them."""

from __future__ import annotations

import re
from typing import Any

from illava_cli.media.sources import kind_of
from illava_cli.openai.asked import Bounds
from illava_cli.openai.fields import SHOWN, given, kind, one_of, refused, text

TEXTS = ("text", "input_text", "output_text")
MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "video_url": "video",
    "input_video": "video",
    "video": "video",
}
DETAILS = ("low", "high", "auto", "original")
# of base64 without a `data:` before it; what it really is, its first bytes say
MIME = ("mime_type", "media_type", "mime")
DEFAULT_MIME = {"image": "image/jpeg", "video": "video/mp4"}
IGNORED = ("cache_control", "prompt_cache_breakpoint")

Part = tuple[str, str]  # ("text", the text), or a medium's kind and its source


class Contents:
    """Reads the contents of a request's messages, and counts what they hold.

    `details` are those that were asked for of its images.
    """

    def __init__(self, bounds: Bounds):
        self.bounds = bounds
        self.details: set[str] = set()
        self._texts = self._media = self._chars = 0

    def read(self, content: Any, at: str, *, media: bool) -> list[Part]:
        """A content: a text, or a list of parts.

        Args:
            media: whether it may hold media, as the user's may.

        Raises:
            RequestError: a part that is none of these, or too many.
        """
        if isinstance(content, str):
            self._count("text", at)
            return [("text", self.fitting(content, at))]
        if not isinstance(content, list):
            refused(at, f"must be a text or a list of parts, not {kind(content)}")
        return [self._part(part, f"{at}[{index}]", at, media) for index, part in enumerate(content)]

    def _part(self, part: Any, at: str, content_at: str, media: bool) -> Part:
        if not isinstance(part, dict):
            refused(at, f"must be an object with a type, not {kind(part)}")
        known = [*TEXTS, *(MEDIA if media else ())]
        name = text(part.get("type"), f"{at}.type")
        if name not in known:
            there_are = f"(there are: {', '.join(known)})"
            refused(f"{at}.type", f"parts of type {name[:SHOWN]!r} are not read here {there_are}")
        medium = MEDIA.get(name)
        self._count(medium or "text", content_at)
        if medium is None:
            # what was answered comes back with its annotations and log-probabilities
            fields = given(part, at, ["type", "text"], [*IGNORED, "annotations", "logprobs"])
            return "text", self.fitting(text(fields.get("text"), f"{at}.text"), content_at)
        return medium, self._source(part, name, medium, at)

    def _count(self, what: str, at: str) -> None:
        if what == "text":
            self._texts += 1
        else:
            self._media += 1
        if self._texts > self.bounds.max_texts:
            refused(at, f"the request has more than {self.bounds.max_texts} messages and texts")
        if self._media > self.bounds.max_parts:
            refused(at, f"the request has more than {self.bounds.max_parts} images and videos")

    def fitting(self, said: str, at: str) -> str:
        """A text of the request's, which with all others is within its bound."""
        self._chars += len(said)
        most = self.bounds.max_chars
        if most is not None and self._chars > most:
            refused(at, f"the texts have over {most} characters: shorten them", "context_length_exceeded")
        return said

    # --- media ------------------------------------------------------------------------------------

    def _source(self, part: dict[str, Any], name: str, medium: str, at: str) -> str:
        """The source that a medium's part names, under its type or in itself."""
        places = list(dict.fromkeys((name, f"{medium}_url", medium, "url", "data")))
        about = ("format", *MIME, *(("detail",) if medium == "image" else ()))
        fields = given(part, at, ["type", *places, *about], IGNORED)
        found = [place for place in places if place in fields]
        if len(found) != 1:
            refused(f"{at}.{name}", f"give {' or '.join(found)}, not both" if found else "has no url")
        (place,) = found
        at = f"{at}.{place}"
        if isinstance(fields[place], dict):
            fields = {"detail": fields.get("detail")} | given(fields[place], at, ["url", "data", *about])
            inner = [name for name in ("url", "data") if name in fields]
            if len(inner) != 1:
                refused(at, "has no url" if not inner else "give url or data, not both")
            place, at = inner[0], f"{at}.{inner[0]}"
        if fields.get("detail") is not None:
            self.details.add(one_of(fields["detail"], f"{at.rpartition('.')[0]}.detail", DETAILS))
        elif medium == "image":
            self.details.add("auto")
        value = text(fields[place], at)
        if place == "data" and kind_of(value) != "data":
            value = f"data:{_mime(fields, medium, at)};base64,{value}"
        return self._url(value, at)

    def _url(self, value: str, at: str) -> str:
        if not value.strip():
            refused(at, "has no url")
        if not self.bounds.paths and kind_of(value) not in ("http", "data", "file"):
            refused(at, "must be an http, https, data or file URL; base64 begins with data:TYPE;base64,")
        return value


def _mime(fields: dict[str, Any], medium: str, at: str) -> str:
    said = next((fields[name] for name in MIME if name in fields), None)
    if said is None:
        said = f"{medium}/{text(fields['format'], at)}" if "format" in fields else DEFAULT_MIME[medium]
    if not re.fullmatch(r"[\w.+-]{1,40}/[\w.+-]{1,40}", text(said, at), re.ASCII):
        refused(at, f"its type must be written as {DEFAULT_MIME[medium]} is")
    return said
