"""The way of a medium through the tower: the merges of all its tokens, step by step, for the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from illava_cli.reduction import Merge
from illava_cli.trace import Step


@dataclass(frozen=True)
class Way:
    """The merges of some segments' tokens, which stand one segment after another.

    Args:
        tokens: M, before the first step.
        merges: by step, (1, M) to (1, M').
        attention: by layer, (M,) what each token received, where that is watched.
    """

    tokens: int = 0
    merges: dict[Step, Merge] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)

    @staticmethod
    def beside(ways: Sequence[Way]) -> Way:
        """Several, one after another; where one has no step, its tokens stay as they are."""
        steps = sorted(set().union(*(way.merges for way in ways)))
        left, merges = [way.tokens for way in ways], {}
        for step in steps:
            taken = [
                way.merges[step] if step in way.merges else Merge.identity(1, tokens, _device(ways))
                for way, tokens in zip(ways, left, strict=True)
            ]
            merges[step], left = Merge.beside(taken), [merge.anchor.shape[1] for merge in taken]
        layers = ways[0].attention
        attention = {layer: torch.cat([way.attention[layer] for way in ways]) for layer in layers}
        return Way(sum(way.tokens for way in ways), merges, attention)

    def then(self, step: Step, merge: Merge) -> Way:
        """With a step more."""
        return Way(self.tokens, self.merges | {step: merge}, self.attention)

    def after(self, step: Step, merge: Merge) -> Way:
        """With a step before all others."""
        return Way(merge.slot.shape[1], {step: merge} | self.merges, self.attention)


def _device(ways: Sequence[Way]) -> torch.device:
    return next(merge.slot.device for way in ways for merge in way.merges.values())


def of_frames(merge: Merge, tokens: int) -> Merge:
    """A merge of whole segments (1, B) to (1, B') as one of their tokens, so many of each."""
    place = torch.arange(tokens, device=merge.slot.device)

    def spread(index: Tensor) -> Tensor:
        each = index[0, :, None] * tokens + place
        return each.where(index[0, :, None] >= 0, -1).reshape(1, -1)

    weight = merge.weight.repeat_interleave(tokens, dim=1)
    return Merge(spread(merge.slot), weight, spread(merge.anchor))
