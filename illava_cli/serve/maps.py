"""Merge maps of answers, kept for a while under names that nobody guesses."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence

from illava_cli.engine.media import sampling
from illava_cli.engine.record import Generation
from illava_cli.engine.session import Session
from illava_cli.media import ImageMedium, VideoMedium
from illava_cli.visualize.page import render
from illava_cli.visualize.payload import drawn, payload
from illava_cli.visualize.pictures import read_media


def drawn_map(
    session: Session,
    prompt: str,
    images: Sequence[ImageMedium],
    videos: Sequence[VideoMedium],
    generation: Generation,
) -> str:
    """The page of a traced answer's merges."""
    media = read_media(images, videos, generation.trace["views"], sampling(session.config.media))
    about, record = session.describe(), generation.record()
    answer = {name: record[name] for name in ("text", "usage", "timings")} | {"memory": {"peak_bytes": None}}
    page = payload(
        drawn(generation.trace, media),
        prompt=prompt,
        model=about["model"],
        preset=about["preset"],
        config={name: about[name] for name in ("family", "device", "dtype", "attn", "reduction")},
        answers={"merged": answer, "plain": None, "agreement": None},
        notes=generation.notes,
    )
    return render(page)


class Maps:
    """Pages, up to a number of bytes; the oldest leave. For one thread."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.bytes = max_bytes, 0
        self._pages: OrderedDict[str, bytes] = OrderedDict()

    def put(self, page: str) -> str:
        """Keep a page: its name."""
        name, data = secrets.token_urlsafe(18), page.encode()
        self._pages[name] = data
        self.bytes += len(data)
        while self.bytes > self.max_bytes and len(self._pages) > 1:
            self.bytes -= len(self._pages.popitem(last=False)[1])
        return name

    def get(self, name: str) -> bytes | None:
        """A page, if it is still there."""
        return self._pages.get(name)
