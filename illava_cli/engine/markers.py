"""`<image>` and `<video>` in a prompt: where its media stand. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARKER = re.compile(r"<(image|video)>")
KINDS = ("image", "video")


def interleaved(items: Sequence[tuple[str, str | None]]) -> str:
    """The prompt of texts and media in an order, with markers for media that do not simply come first.

    Media before all text keep the place that the checkpoint's chat template gives them. A text with
    `<image>` in it, as prompts written for LLaVA have, places them itself as it does in LLaVA's own runs:
    where the media suffice. Where they do not, it is text, and must not be taken for a medium.

    Args:
        items: (`text`, the text) or (a medium's kind, anything).
    """
    kinds = [kind for kind, _ in items]
    media = [kind for kind in kinds if kind in KINDS]
    first = kinds == sorted(media) + ["text"] * (len(kinds) - len(media))
    if not first:
        return "".join(_plain(value) if kind == "text" else f"<{kind}>" for kind, value in items)
    text = "".join(value for kind, value in items if kind == "text")
    marked = [match.group(1) for match in MARKER.finditer(text)]
    return _plain(text, [kind for kind in KINDS if marked.count(kind) > media.count(kind)])


def _plain(text: str, kinds: Sequence[str] = KINDS) -> str:
    """`text` with the markers of `kinds` in square brackets, in which they mark nothing."""
    return MARKER.sub(lambda m: f"[{m.group(1)}]" if m.group(1) in kinds else m.group(0), text)
