"""A question on its way: as it was asked, with its media read, and while it is answered. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from illava_cli.config.settings import Config
from illava_cli.engine.fields import refuse_unknown
from illava_cli.engine.record import MediaRecord
from illava_cli.errors import UsageError
from illava_cli.trace import Tracing

if TYPE_CHECKING:
    from illava_cli.engine.past import Past
    from illava_cli.engine.rules import Rules
    from illava_cli.engine.sampling import Constraint
    from illava_cli.models.media import Features, Pixels

READ, ENCODE = "read", "encode"
# READ or ENCODE, how many of a clip's frames or of the tower's segments are done, and how many there are
Progress = Callable[[str, int, int], None]


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

    @staticmethod
    def of(data: dict[str, Any]) -> Request:
        """A question from a mapping.

        Raises:
            UsageError: a field that there is none of, or no prompt.
        """
        refuse_unknown(data, [field.name for field in fields(Request)], "a question")
        if "prompt" not in data:
            raise UsageError("a question: prompt is missing")
        return Request(**data)

    @property
    def counts(self) -> tuple[int, int]:
        """How many images and how many videos it has."""
        return len(self.images), len(self.videos)


def _as_tuple(media: Any) -> tuple:
    """Media as a tuple; one path, picture or array alone is taken as one medium."""
    if isinstance(media, str | bytes | Path | np.ndarray) or hasattr(media, "convert"):
        return (media,)
    return tuple(media)


@dataclass(frozen=True)
class Slot:
    """The place of a medium, the `index`-th of its kind in this turn, or of one of its parts."""

    kind: str
    index: int
    part: int = 0

    @property
    def medium(self) -> Slot:
        """That of its first part, which stands for all of them."""
        return Slot(self.kind, self.index)


Piece = list[int] | Slot


@dataclass(frozen=True)
class Encoded:
    """A medium, to be encoded (`pixels`) or encoded before (`features`), and its key in the feature cache."""

    key: str
    pixels: Pixels | None = None
    features: Features | None = None

    @property
    def medium(self) -> Pixels | Features:
        """What there is of it."""
        return self.features if self.pixels is None else self.pixels


@dataclass
class Prepared:
    """A question whose media are read; what was encoded before comes as features.

    Another question about the same media is `replace(prepared, request=...)`.

    Args:
        slots: each medium.
        tokens: visual tokens that its media have in the tower.
        seconds: what reading and preprocessing took.
        settings: what of the session's schedule decides the media's features.
    """

    request: Request
    slots: dict[Slot, Encoded]
    media: list[MediaRecord]
    tokens: int
    seconds: float
    settings: str


@dataclass(eq=False)
class Turn:
    """A question on its way through the model.

    Args:
        parts: token ids and the places of media, in order.
        config: what it is answered under.
        past: the conversation that it goes on from, whose cache it appends to.
        earlier: rounds between that and this one whose answers are given: they are read before it.
        given: token ids of its answer, where it is such a round.
        answers: how many are drawn.
        on_text: called with an answer and each new piece of it.
        cancel: set to stop the answer early.
        timeout: seconds after which it is stopped, from when its media are encoded on.
        progress: called while its media go through the tower.
        trace, logits: what is kept of its way.
        constrain: makes what each answer has to conform to.
    """

    prepared: Prepared
    parts: list[Piece]
    rules: Rules
    config: Config
    past: Past | None = None
    earlier: Sequence[Turn] = ()
    given: Sequence[int] = ()
    answers: int = 1
    on_text: Callable[[Any, str], None] | None = None
    cancel: threading.Event | None = None
    timeout: float | None = None
    progress: Progress | None = None
    trace: Tracing = False
    logits: bool = False
    constrain: Callable[[], Constraint] | None = None
    # what the way leaves behind
    features: list[Features] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the conversation, in the first layer's cache
    reused: int = 0  # media that had been encoded
    kept: tuple[int, int] = (0, 0)  # image tokens and newlines that are left in the deepest layers
    system_tokens: int = 0  # known where the turn is traced
    notes: list[str] = field(default_factory=list)
    vision_s: float = 0.0
    began: float = 0.0
    given_up: bool = False

    def __post_init__(self):
        self.rounds = self.past.rounds if self.past is not None else 0  # when it was asked

    @property
    def leading(self) -> str | None:
        """Kind of the conversation's first media, whose schedule the decoder follows."""
        if self.past is not None and self.past.leading is not None:
            return self.past.leading
        kinds = {slot.kind for slot in self.prepared.slots}
        return "image" if "image" in kinds else "video" if kinds else None

    @property
    def continues(self) -> bool:
        """Whether it appends to a cache that holds, or will hold, what came before it."""
        return self.past is not None and bool(self.past.rounds or self.earlier)

    def begin_anew(self) -> None:
        """Forget how far it has come."""
        for one in (*self.earlier, self):
            one.notes.clear()
            one.features, one.began = [], 0.0

    def give_up(self) -> None:
        """Nobody waits for it any more; `cancel` is the caller's, who may use it again."""
        self.given_up = True

    @property
    def spoken(self) -> list[int]:
        """Its token ids, without its media."""
        return [token for part in self.parts if isinstance(part, list) for token in part]

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.given_up or (self.cancel is not None and self.cancel.is_set())
