"""A question on its way: as it was asked, with its media read, and while it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from illava_cli.engine.prompt import Piece, Slot
from illava_cli.engine.record import MediaRecord
from illava_cli.models.media import Features, Pixels


@dataclass(frozen=True)
class Request:
    """One question of a batch."""

    prompt: str
    images: Sequence[Any] = ()
    videos: Sequence[Any] = ()
    system: str | None = None
    id: str = ""

    def __post_init__(self):
        for name in ("images", "videos"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))

    @property
    def counts(self) -> tuple[int, int]:
        """How many images and how many videos it has."""
        return len(self.images), len(self.videos)


def _as_tuple(media: Any) -> tuple:
    """Media as a tuple; one path, picture or array alone is taken as one medium."""
    if isinstance(media, str | bytes | Path | np.ndarray) or hasattr(media, "convert"):
        return (media,)
    return tuple(media)


@dataclass
class Prepared:
    """A question whose media are read; what was encoded before comes as features.

    Another question about the same media is `replace(prepared, request=...)`.

    Args:
        slots: each medium, with its key in the feature cache.
        tokens: visual tokens that its media have in the tower.
        seconds: what reading and preprocessing took.
    """

    request: Request
    slots: dict[Slot, tuple[str, Pixels | Features]]
    media: list[MediaRecord]
    tokens: int
    seconds: float


@dataclass
class Turn:
    """A question on its way through the model."""

    prepared: Prepared
    parts: list[Piece] = field(default_factory=list)
    features: list[Features] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # where each of them begins in the prompt
    prompt_tokens: int = 0
    system_tokens: int = 0  # known where the turn is traced
