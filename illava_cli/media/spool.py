"""The frames of a clip, as many as there may be: the first in memory, the rest in a file.

The file has no name: nobody else opens it, and it goes with the last who knows its frames, or with the
process.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from illava_cli.errors import OutputError

HELD_BYTES = 32 << 20  # of a clip's frames, in memory
LARGE = "/var/tmp"  # for large files: unlike /tmp it is not memory


class Spool(Sequence[Any]):
    """Frames in their order, uint8 arrays; what else a transform made of them stays in memory.

    A slice or a choice of them shares what holds them, and reads none. Threads may share it.
    """

    def __init__(self, store: _Store, places: Sequence[int]):
        self._store, self._places = store, places

    @staticmethod
    def of(frames: Iterable[Any]) -> Spool:
        """All of `frames`, taken one by one.

        Raises:
            OutputError: the file has no room for them.
        """
        store = _Store()
        for frame in frames:
            store.add(frame)
        return Spool(store, range(len(store.frames)))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Spool(self._store, self._places[index])
        return self._store.read(self._places[index])

    def __iter__(self) -> Iterator[Any]:
        return map(self._store.read, self._places)

    def __reduce__(self) -> tuple:
        return Spool.of, (list(self),)

    def chosen(self, indices: Iterable[int]) -> Spool:
        """Some of them."""
        return Spool(self._store, [self._places[index] for index in indices])

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Height, width and colours of each."""
        return [self._store.frames[place].shape for place in self._places]

    @property
    def nbytes(self) -> int:
        """What they take, in memory and in the file."""
        return sum(map(math.prod, self.shapes))


@dataclass(frozen=True)
class _Filed:
    """A frame in the file."""

    offset: int
    shape: tuple[int, ...]


class _Store:
    """What holds the frames: each is there itself, or where it lies in the file."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self._room = HELD_BYTES
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def add(self, frame: Any) -> None:
        """One more."""
        if isinstance(frame, np.ndarray) and frame.dtype == np.uint8:
            if frame.nbytes > self._room:
                frame = self._write(frame)
            else:
                self._room -= frame.nbytes
        self.frames.append(frame)

    def read(self, place: int) -> Any:
        """One of them."""
        frame = self.frames[place]
        if not isinstance(frame, _Filed):
            return frame
        pixels = np.empty(frame.shape, np.uint8)
        with self._lock:
            self._file.seek(frame.offset)
            if self._file.readinto(pixels) < pixels.nbytes:
                raise OutputError("the temporary file of a clip's frames was cut off: ask again")
        return pixels

    def _write(self, frame: np.ndarray) -> _Filed:
        folder = _folder()
        try:
            if self._file is None:
                # without a buffer: what does not fit is said now, and nothing is left to write at its end
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed below
                weakref.finalize(self, self._file.close)
            filed = _Filed(self._file.tell(), frame.shape)
            left = memoryview(np.ascontiguousarray(frame)).cast("B")
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OutputError(
                f"cannot keep a long clip's frames in {folder or 'a temporary folder'}: "
                f"{error.strerror or error}; make room, name another folder in TMPDIR, or read fewer frames "
                "(--num-frames)"
            ) from None
        return filed


def _folder() -> str | None:
    """Where the file goes; None is Python's choice."""
    if folder := os.environ.get("TMPDIR"):
        return folder
    return LARGE if os.path.isdir(LARGE) and os.access(LARGE, os.W_OK) else None
