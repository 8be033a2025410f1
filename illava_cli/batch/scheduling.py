"""Which of the waiting questions share a pass: the oldest, and those like it in kind and size."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.batch.reader import Media

ALIKE = 1.5  # sizes that differ by less share a pass: a batch is padded to its longest row
WINDOW = 4  # batches' worth of questions that may wait for others of their size


@dataclass(frozen=True)
class Waiting:
    """A question whose media are read.

    Args:
        prepared: what the worker asks with.
        kind: only questions of one kind share a pass; None: each has a pass of its own.
        tokens: its size.
        media: what it was prepared from, which others may share.
    """

    item: Item
    prepared: Any
    kind: Hashable | None
    tokens: int
    media: Media


class Scheduler:
    """Waiting questions in the order in which they came."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._waiting: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, media: Media) -> bool:
        """Whether a question about these media is waiting."""
        return any(waiting.media is media for waiting in self._waiting)

    def add(self, waiting: Waiting) -> None:
        """Take in a question."""
        self._waiting.append(waiting)

    def batch(self, *, flush: bool = False) -> list[Waiting]:
        """The next questions to ask, at most `batch_size`; none as long as it is better to wait for more.

        Args:
            flush: do not wait.
        """
        if not self._waiting:
            return []
        oldest = self._waiting[0]
        if oldest.kind is None:
            alike = [oldest]
        else:
            alike = [w for w in self._waiting if w.kind == oldest.kind and _alike(w.tokens, oldest.tokens)]
            full = len(alike) >= self.batch_size or len(self._waiting) >= WINDOW * self.batch_size
            if not full and not flush:
                return []
        chosen = alike[: self.batch_size]
        taken = set(map(id, chosen))
        self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
        return chosen


def _alike(one: int, other: int) -> bool:
    return max(one, other) <= ALIKE * max(1, min(one, other))
