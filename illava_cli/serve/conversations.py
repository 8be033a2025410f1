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


class Said:
    """What was asked in a conversation, as digests: bodies of many megabytes are hashed once, in a thread."""

    def __init__(self, asked: Asked, owner: str, settings: str):
        """
        Args:
            owner: who asks; nobody goes on from what another one said.
            settings: what else decides the cache: how media are read and reduced.
        """
        self._begin = _digest([owner, settings, asked.system])
        self._rounds = [_digest([one.prompt, one.images, one.videos]) for one in asked.rounds]

    def keys(self, answers: Sequence[str]) -> list[str]:
        """A key for the end of each round that has an answer, of all that was said up to there."""
        keys, key = [], self._begin
        for round, answer in zip(self._rounds, answers, strict=False):
            key = _digest([key, round, answer.strip()])  # clients trim what they show, and send that
            keys.append(key)
        return keys


def _digest(said: list) -> str:
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


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
