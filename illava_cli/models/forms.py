"""How a medium stands before the tower, and how its survivors are laid out as decoder tokens.

A `Form` is made of a medium's size alone, so that all counts are known on the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from illava_cli.models.survivors import Survivors
from illava_cli.reduction import Merge
from illava_cli.trace import View


class Expansion(NamedTuple):
    """Decoder tokens of a medium."""

    visual: int
    newlines: int

    @property
    def total(self) -> int:
        return self.visual + self.newlines


@dataclass(frozen=True)
class Layout:
    """A medium's decoder tokens.

    Args:
        embeds: (T, C) image tokens and newlines.
        place: (T,) their places in the unmerged medium.
        newline: (T,) which are newlines.
        length: the unmerged length.
        order: (T,) which image token stands there, newlines counted after them; None: they are in order.
        taps: (T, C) features of these tokens by the decoder layer after which they are added.
        joined: what became of the survivors before, (1, survivors) to (1, image tokens), where that is
            traced; None: they are the image tokens.
    """

    embeds: Tensor
    place: Tensor
    newline: Tensor
    length: int
    order: Tensor | None = None
    joined: Merge | None = None
    taps: dict[int, Tensor] = field(default_factory=dict)

    def origin(self) -> Merge:
        """(1, survivors) to (1, T)."""
        order = (~self.newline).cumsum(0) - 1 if self.order is None else self.order
        tokens = len(order) - int(self.newline.sum())
        placed = Merge.select(order.where(~self.newline, -1)[None], tokens)
        return placed if self.joined is None else self.joined.then(placed)


class Form(ABC):
    """A medium's segments, and what the decoder gets of them; `layout` is `grid` or `faithful`."""

    ranks_newlines: ClassVar[bool] = False  # whether its newlines are those of rows

    @property
    @abstractmethod
    def segments(self) -> int:
        """Tiles, frames or temporal groups that go through the tower."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Tower tokens of a segment."""

    @abstractmethod
    def views(self) -> list[View]:
        """What each segment shows of the picture."""

    @property
    def apart(self) -> bool:
        """Whether text stands between its segments: each is a part of a prompt."""
        return False

    def part(self) -> Form:
        """A segment that stands apart, as a medium of its own."""
        return self

    def outside(self) -> Tensor | None:
        """(segments, tokens) padding of the image; None where there is none."""
        return None

    def padding(self, layout: str) -> Tensor | None:
        """(segments, tokens) image padding that leaves first; None where none does."""
        return None if layout == "grid" else self.outside()

    @property
    def pools(self) -> bool:
        """Whether survivors are chosen by attention where the model makes fewer of them."""
        return False

    def cells(self, kept: int, layout: str) -> int:
        """Places of a segment after `condense`, where `kept` of its tokens have come there."""
        return self.tokens

    @abstractmethod
    def expansion(self, kept: Sequence[int], layout: str, entered: Tensor | None = None) -> Expansion:
        """Decoder tokens where so many tokens of each segment that is left are laid out.

        Args:
            entered: (segments, tokens) which of them were seen by the tower, where not all were.
        """

    def candidates(self, expansion: Expansion, authors: bool) -> int:
        """Decoder tokens that may merge there; under variant `authors` newlines of rows are among them."""
        return expansion.total if authors and self.ranks_newlines else expansion.visual

    def condense(self, survivors: Survivors, layout: str) -> Survivors:
        """What is done to each segment alone, chunk by chunk: no more is kept than the decoder takes."""
        return survivors

    @abstractmethod
    def lay_out(
        self, survivors: Survivors, layout: str, newline: Tensor | None, entered: Tensor | None = None
    ) -> Layout:
        """The survivors of all segments, in one row, as decoder tokens.

        Args:
            newline: (C,) the model's embedding.
            entered: as for `expansion`.
        """


class InPlace(Form):
    """A form whose survivors stand at their own places, segment by segment, with no newlines."""

    def expansion(self, kept: Sequence[int], layout: str, entered: Tensor | None = None) -> Expansion:
        return Expansion(sum(kept), 0)

    def lay_out(
        self, survivors: Survivors, layout: str, newline: None, entered: Tensor | None = None
    ) -> Layout:
        place, taps = survivors.place[0], {layer: values[0] for layer, values in survivors.taps.items()}
        newline = torch.zeros_like(place, dtype=torch.bool)
        return Layout(survivors.features[0], place, newline, self.segments * self.tokens, taps=taps)
