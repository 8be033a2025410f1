"""Conversations whose KV caches are kept, found again by what was said in them.

Clients send the whole of a conversation each time. Where a part of it, from its beginning, was answered here,
its cache goes on: whoever takes one has it alone, and gives it back longer. The least recently used leave.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import zip_longest

from illava_cli.engine.past import Past
from illava_cli.openai.asked import Asked


class Said:
    """What was said in a conversation, as a key for the end of each round: of all that came up to there.

    Media may be many megabytes in the messages themselves: for a thread.
    """

    def __init__(self, asked: Asked, *about: object):
        """
        Args:
            about: what else decides the cache: how media are read and reduced, and who asks, since nobody
                goes on from what another one said.
        """
        self._digest = hashlib.blake2b(json.dumps([*about, asked.system]).encode(), digest_size=16)
        self.keys: list[str] = []  # of the rounds that have answers
        for round, answer in zip_longest(asked.rounds, asked.answers):
            self._digest.update(json.dumps([round.prompt, round.images, round.videos]).encode())
            if answer is not None:
                self._add(answer)
                self.keys.append(self._digest.hexdigest())

    def _add(self, answer: str) -> None:
        self._digest.update(json.dumps(answer.strip()).encode())  # clients trim what they show, and send that

    def whole(self, answer: str) -> list[str]:
        """The keys of all rounds, when the last has its answer."""
        self._add(answer)
        return [*self.keys, self._digest.hexdigest()]


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
