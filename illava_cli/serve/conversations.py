"""Conversations whose KV caches are kept, found again by what was said in them.

Clients send the whole of a conversation each time. Where a part of it, from its beginning, was answered here,
its cache goes on: whoever takes one has it alone, and gives it back longer. The least recently used leave.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence

from illava_cli.engine.past import Past
from illava_cli.openai.asked import Asked


def keys_of(asked: Asked, owner: str, settings: str, answers: Sequence[str]) -> list[str]:
    """A key for the end of each round that has an answer, of all that was said up to there.

    Args:
        owner: who asks; nobody goes on from what another one said.
        settings: what else decides the cache: how media are read and reduced.
        answers: to the first rounds.
    """
    digest = hashlib.blake2b(json.dumps([owner, settings, asked.system]).encode(), digest_size=16)
    keys = []
    for round, answer in zip(asked.rounds, answers, strict=False):
        # clients trim what they show, and send that
        said = [round.prompt, round.images, round.videos, answer.strip()]
        digest.update(json.dumps(said).encode())
        keys.append(digest.hexdigest())
    return keys


class Conversations:
    """Caches of conversations, up to a number of bytes. For one thread."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.bytes = max_bytes, 0
        self._entries: OrderedDict[str, tuple[list[str], Past]] = OrderedDict()  # by its last key
        self._ends: dict[str, str] = {}  # key of any round -> the last key of its conversation

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, keys: Sequence[str]) -> Past | None:
        """The conversation that goes furthest along `keys`, up to where it does so; it is kept no more."""
        for number in range(len(keys), 0, -1):
            if (last := self._ends.get(keys[number - 1])) is not None:
                _, past = self._remove(last)
                past.back(number)
                return past
        return None

    def put(self, keys: Sequence[str], past: Past) -> None:
        """Keep a conversation; `keys` are those of all its rounds."""
        size = past.nbytes
        if size > self.max_bytes or not keys:
            return
        for key in keys:
            if key in self._entries:
                self._remove(key)
        self._entries[keys[-1]] = list(keys), past
        self._ends |= dict.fromkeys(keys, keys[-1])
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, last: str) -> tuple[list[str], Past]:
        keys, past = self._entries.pop(last)
        self.bytes -= past.nbytes
        for key in keys:
            if self._ends.get(key) == last:
                del self._ends[key]
        return keys, past
