"""What is counted of a model before it runs: the widths of its tower, and a medium's decoder tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class TowerShape:
    """A vision tower.

    `patch_values` are the numbers in one patch of pixels; a gated MLP has 3 matrices; `class_tokens` go
    through each layer beside a segment's patches.
    """

    width: int
    inner: int
    layers: int
    patch_values: int
    gated: bool = False
    class_tokens: int = 0


Projector = tuple[tuple[int, int], ...]  # (inputs, outputs) of its matrices, per token that leaves the tower


class Expansion(NamedTuple):
    """Decoder tokens of a medium."""

    visual: int
    newlines: int

    @property
    def total(self) -> int:
        return self.visual + self.newlines
