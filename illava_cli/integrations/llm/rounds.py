"""`llm`'s messages -> the rounds of a conversation: questions with their media, and the answers between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llm.parts import AttachmentPart, Message, ReasoningPart, TextPart

from illava_cli.engine.markers import interleaved
from illava_cli.errors import UsageError
from illava_cli.media.sources import as_path

# what `llm` may hand over; what decodes it looks at the bytes
IMAGES = (
    "jpeg",
    "jpg",
    "png",
    "webp",
    "gif",
    "bmp",
    "x-ms-bmp",
    "tiff",
    "avif",
    "heic",
    "heif",
    "jp2",
    "apng",
)
VIDEOS = ("mp4", "quicktime", "webm", "x-matroska", "matroska", "x-msvideo", "mpeg", "x-m4v", "mp2t", "3gpp")
VIDEOS += ("x-flv", "x-ms-wmv", "ogg")
TYPES = {f"image/{name}" for name in IMAGES} | {f"video/{name}" for name in VIDEOS}


@dataclass
class Round:
    """A question, and its answer where there is one already."""

    items: list[tuple[str, Any]] = field(default_factory=list)  # ("text" or a medium's kind, it)
    answer: str | None = None

    @property
    def prompt(self) -> str:
        """Its words; `llm` says first what is asked, then about what."""
        media = [item for item in self.items if item[0] != "text"]
        return interleaved([*sorted(media), *(item for item in self.items if item[0] == "text")])

    def media(self, kind: str) -> list[Any]:
        """Its images or its videos."""
        return [source for own, source in self.items if own == kind]


def rounds(messages: Iterable[Message]) -> tuple[str | None, list[Round]]:
    """The system prompt, and the rounds, of which the last has no answer.

    Raises:
        UsageError: what these models do not take, such as tools.
    """
    system: list[str] = []
    found: list[Round] = []
    for message in messages:
        if message.role == "system":
            system += [part.text for part in message.parts if isinstance(part, TextPart)]
        elif message.role == "assistant":
            if not found:
                raise UsageError("the conversation begins with an answer: begin it with a question")
            found[-1].answer = (found[-1].answer or "") + _said(message)
        elif message.role == "user":
            if not found or found[-1].answer is not None:
                found.append(Round())
            found[-1].items += [_item(part) for part in message.parts]
        else:
            raise UsageError(f"these models take no messages of {message.role!r}: leave out tools")
    if not found or found[-1].answer is not None:
        raise UsageError("nothing is asked: give a prompt")
    return "\n\n".join(system) if system else None, found


def _said(message: Message) -> str:
    others = [part for part in message.parts if not isinstance(part, TextPart | ReasoningPart)]
    if others:
        raise UsageError("the conversation holds answers of another kind than text: begin a new one")
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _item(part: Any) -> tuple[str, Any]:
    if isinstance(part, TextPart):
        return "text", part.text
    if not isinstance(part, AttachmentPart) or part.attachment is None:
        raise UsageError("these models take text, images and videos: leave out the rest")
    attachment = part.attachment
    kind = (attachment.resolve_type() or "").partition("/")[0]
    if kind not in ("image", "video"):
        raise UsageError(f"these models take images and videos, not {kind or 'unknown'} files")
    if attachment.path:
        return kind, as_path(attachment.path)
    return kind, attachment.url or attachment.content
