"""What the requests ask: synthetic pictures that differ from one another, or media of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np

from illava_cli.bench.pictures import blobs, clip_url, jpeg_url
from illava_cli.client.body import messages
from illava_cli.media import name_of

Content = list[dict[str, Any]]  # the parts of a user's message
MOST_BYTES = 256 << 20  # of what is made ahead


class Questions(Protocol):
    """Questions by number; each begins a conversation."""

    media: int  # pictures and clips in each, at most

    def prepare(self, number: int) -> bool:
        """Make it ahead, so that it takes no time while others are measured; false where enough are made."""

    def content(self, number: int) -> Content:
        """The message of a question."""

    def describe(self) -> dict[str, Any]:
        """For the report."""


class Synthetic:
    """Pictures, or clips of `frames` each, that no server has seen, but for a share that is asked again."""

    media = 1

    def __init__(
        self, prompt: str, size: tuple[int, int], frames: int | None, repeat: float, seed: int
    ) -> None:
        """
        Args:
            size: width and height in pixels.
            repeat: share of the questions about what was asked about before.
        """
        self.prompt, self.size, self.frames, self.repeat, self.seed = prompt, size, frames, repeat, seed
        self._random = np.random.default_rng([seed, 1])
        self._shown: list[int] = []  # which picture each question is about
        self._pictures = 0
        self._made: dict[int, str] = {}
        self._bytes = 0  # of those

    def picture(self, number: int) -> int:
        """Which picture a question is about."""
        while len(self._shown) <= number:
            again = self._pictures and self._random.random() < self.repeat
            self._shown.append(int(self._random.integers(self._pictures)) if again else self._pictures)
            self._pictures += not again
        return self._shown[number]

    def prepare(self, number: int) -> bool:
        if self._bytes < MOST_BYTES and (picture := self.picture(number)) not in self._made:
            self._made[picture] = self._url(picture)
            self._bytes += len(self._made[picture])
        return self._bytes < MOST_BYTES

    def content(self, number: int) -> Content:
        self.prepare(number)
        kind, picture = "video" if self.frames else "image", self.picture(number)
        url = self._made.get(picture) or self._url(picture)
        if not self.repeat and self._made.pop(picture, None):  # it is not asked about again
            self._bytes -= len(url)
        return [{"type": f"{kind}_url", f"{kind}_url": {"url": url}}, {"type": "text", "text": self.prompt}]

    def _url(self, picture: int) -> str:
        width, height = self.size
        if not self.frames:
            return jpeg_url(blobs(width, height, [self.seed, picture]))
        return clip_url([blobs(width, height, [self.seed, picture, frame]) for frame in range(self.frames)])

    def describe(self) -> dict[str, Any]:
        what = {"width": self.size[0], "height": self.size[1]}
        if self.frames:
            what["frames"] = self.frames
        kind = "video" if self.frames else "image"
        return {"synthetic": True, "kind": kind, **what, "repeat": self.repeat}


@dataclass(frozen=True)
class Asked:
    """A question about media of the user's: `<image>` and `<video>` in its prompt place them."""

    prompt: str
    images: Sequence[str] = ()
    videos: Sequence[str] = ()


class Recorded:
    """Questions of the user's, one after another, and from the first again after the last."""

    def __init__(self, asked: Sequence[Asked], seconds: float | None = None):
        """
        Args:
            seconds: that reading a medium may take.

        Raises:
            UsageError: more markers than media.
            MediaError, Timeout: a medium cannot be read.
        """
        self.asked = asked
        self.media = max(len(one.images) + len(one.videos) for one in asked)
        self._contents = [
            messages(one.prompt, one.images, one.videos, seconds=seconds)[0]["content"] for one in asked
        ]

    def prepare(self, number: int) -> bool:
        """They are there."""
        return True

    def content(self, number: int) -> Content:
        return self._contents[number % len(self._contents)]

    def describe(self) -> dict[str, Any]:
        names = [name_of(source) for one in self.asked for source in (*one.images, *one.videos)]
        names = [name if name.startswith("<") else PurePath(name).name for name in names]
        return {"synthetic": False, "questions": len(self.asked), "names": names[:20]}
