"""Encoded media of a session, least recently used first: the same picture goes through the tower once."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from illava_cli.models.media import Features

TENSORS = ("embeds", "kinds", "rankable", "place")


def _nbytes(features: Features) -> int:
    injected = sum(x.nbytes for x in features.injections.values())
    return injected + sum(getattr(features, name).nbytes for name in TENSORS)


def content_key(frames: Iterable[Image.Image | np.ndarray], *settings: object) -> str:
    """Hash of pixels and of everything else that decides their features."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for frame in frames:
        array = np.asarray(frame)
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class FeatureCache:
    """Features by content key, up to a number of bytes; threads may share it."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Features | None:
        """The features of `key`, if they are still there."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, features: Features) -> None:
        """Keep `features` without their merges; the least recently used leave for them."""
        size = _nbytes(features)
        if key in self._entries or size > self.max_bytes:
            return
        # they may be views of a whole batch, which would then stay in memory
        own = {name: getattr(features, name).clone() for name in TENSORS}
        own["injections"] = {layer: x.clone() for layer, x in features.injections.items()}
        with self._lock:
            self._entries[key] = replace(features.untraced(), **own)
            self.bytes += size
            while self.bytes > self.max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self.bytes -= _nbytes(oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0
