"""`ClipTokens`: what a method knows of a whole clip's tokens, and the steps that such methods share.

A method is a function `ClipTokens -> Assignment` over the F*P places, frame after frame, that leaves exactly
`left` tokens. Places that hold no token are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.candidates import lowest
from illava_cli.reduction.merge import Assignment, accumulation_dtype


@dataclass(frozen=True)
class ClipTokens:
    """P places in each of F frames (or temporal patches), of which some hold a token.

    Args:
        features: (F, P, C) as they leave the tower.
        valid: (F, P) False where there is no token.
        scores: (F, P) attention received; higher is more attended.
        present: how many tokens there are, as the host knows.
        left: how many of them remain, 1 <= left <= present.
    """

    features: Tensor
    valid: Tensor
    scores: Tensor
    present: int
    left: int

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of sums and weights."""
        return accumulation_dtype(self.features.dtype)

    @cached_property
    def index(self) -> Tensor:
        """(F, P) each token's index in the clip."""
        return torch.arange(self.valid.numel(), device=self.valid.device).view_as(self.valid)

    @cached_property
    def counts(self) -> Tensor:
        """(F,) tokens in each frame."""
        return self.valid.sum(1)

    @cached_property
    def attention(self) -> Tensor:
        """(F, P) scores, -inf where there is no token."""
        return self.scores.to(self.dtype).masked_fill(~self.valid, -torch.inf)

    @cached_property
    def directions(self) -> Tensor:
        """(F, P, C) features of length 1: their products are cosines. 0 where there is no token."""
        units = normalize(self.features.to(self.dtype), dim=-1)
        return units.masked_fill_(~self.valid.unsqueeze(-1), 0)


def squared(units: Tensor, centres: Tensor) -> Tensor:
    """(F, P) the squared distance of each of (F, P, C), of length 1, from its frame's of `centres` (F, C)."""
    return 1 - 2 * (units @ centres.unsqueeze(-1)).squeeze(-1) + (centres**2).sum(-1, keepdim=True)


def highest(count: int, *keys: Tensor) -> Tensor:
    """(F, P) True for the `count` highest of the clip by the first of `keys` (F, P).

    Equals go by the next key, and in the end by index: the lower one is taken.
    """
    order = torch.arange(keys[0].numel(), device=keys[0].device)
    for key in reversed(keys):
        order = order.gather(0, key.flatten().gather(0, order).argsort(descending=True, stable=True))
    taken = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
    return taken.scatter(0, order[:count], True).view_as(keys[0])


def highest_of_frames(key: Tensor, counts: Tensor) -> Tensor:
    """(F, P) True for the `counts` (F,) highest of each frame by `key` (F, P); ties: lower index."""
    return lowest(-key, counts, key.shape[1])


def keeping(tokens: ClipTokens, kept: Tensor) -> Assignment:
    """`kept` (F, P) stay as they are, all others go without a trace."""
    target = tokens.index.where(kept, -1).view(1, -1)
    return Assignment(target, torch.ones(target.shape, dtype=tokens.dtype, device=target.device))


def averaged(tokens: ClipTokens, target: Tensor) -> Assignment:
    """Each token joins its `target` (F, P), -1 to be dropped, and slots are plain means."""
    target = target.view(1, -1)
    joins = (target >= 0).to(tokens.dtype)
    sizes = torch.zeros_like(joins).scatter_add(1, target.clamp(min=0), joins)
    return Assignment(target, (1 / sizes.gather(1, target.clamp(min=0))).where(target >= 0, 1))
