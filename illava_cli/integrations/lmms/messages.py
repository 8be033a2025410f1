"""The harness's chat messages -> one question to a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from illava_cli.engine.markers import KINDS, interleaved
from illava_cli.engine.session import Request
from illava_cli.errors import UsageError

Item = tuple[str, Any]  # ("text" or a medium's kind, the text or the medium's source)


@dataclass(frozen=True)
class Query:
    """A question, and the seconds between which its videos are to be read."""

    request: Request
    start: float | None = None
    end: float | None = None


def to_query(messages: Sequence[Mapping[str, Any]], id: str = "") -> Query:
    """One conversation as a question.

    Args:
        messages: `{"role": "system" | "user", "content": text or list}`, the list's entries being
            `{"type": "text", "text": ...}`, `{"type": "image", "url": PIL image, path or URL}` or
            `{"type": "video", "url": path or frames}`; a medium may also be a dict with its `path` or
            `bytes`, a video may have a `start_time` and an `end_time` in seconds.
        id: the question's name.

    Raises:
        UsageError: what these models do not take: audio, earlier answers, videos cut at different times.
    """
    system: list[str] = []
    items: list[Item] = []
    spans: set[tuple[float | None, float | None]] = set()
    for message in messages:
        role, content = message["role"], message["content"]
        entries = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if role not in ("system", "user"):
            raise UsageError(
                f"the conversation holds an earlier answer (role {role}): choose a task of single questions"
            )
        for entry in entries:
            kind = entry["type"]
            if role == "system":
                system.append(entry["text"])
            elif kind == "text":
                items.append((kind, entry["text"]))
            elif kind in KINDS:
                items.append((kind, _source(entry["url"])))
                if kind == "video":
                    spans.add(_span(entry))
            else:
                raise UsageError(f"these models take text, images and videos: choose a task without {kind}")
    if len(spans) > 1:
        raise UsageError(
            "the videos of a question are cut at different times: one start and end holds for all"
        )
    images, videos = ([source for kind, source in items if kind == wanted] for wanted in KINDS)
    request = Request(interleaved(items), images, videos, "".join(system) if system else None, id)
    return Query(request, *(spans.pop() if spans else (None, None)))


def _source(url: Any) -> Any:
    """A medium as a session takes it."""
    if not isinstance(url, Mapping):
        return url
    for name in ("bytes", "path", "url"):
        if url.get(name) is not None:
            return url[name]
    raise UsageError(f"a medium has neither bytes nor a path, but {', '.join(map(str, url)) or 'nothing'}")


def _span(entry: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Start and end of a video; some tasks say them beside its path."""
    url = entry["url"] if isinstance(entry["url"], Mapping) else {}
    start, end = url.get("video_start"), url.get("video_end")
    return entry.get("start_time", start), entry.get("end_time", end)
