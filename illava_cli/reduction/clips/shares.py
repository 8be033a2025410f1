"""A budget dealt out in whole tokens, in proportion to weights, where each place holds only so many."""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.candidates import lowest

STEPS = 1024  # remainders that agree to one in so many are equal, whatever their last bits


def shares(weights: Tensor, room: Tensor, total: Tensor | int) -> Tensor:
    """(G,) whole numbers that sum to `total`, as nearly in proportion to `weights` as `room` allows.

    What one cannot hold goes to the others in the same proportion, and what rounding down leaves to the
    largest remainders, one each. Ties: lower index.

    Args:
        weights: (G,) above 0 where there is room.
        room: (G,) the most that each can hold.
        total: at most the sum of `room`.
    """
    # the full ones have the least room for their weight: in that order each is full if its part of what those
    # before it leave is more than it can hold
    tiny = torch.finfo(weights.dtype).tiny
    per_weight = room / weights.clamp(min=tiny)
    order = per_weight.argsort(stable=True)
    before, behind = room.gather(0, order), weights.gather(0, order)
    before = before.cumsum(0) - before
    behind = behind.flip(0).cumsum(0).flip(0)
    full = per_weight.gather(0, order) * behind <= total - before
    full = torch.zeros_like(full).scatter(0, order, full)
    rest = weights.masked_fill(full, 0)
    exact = rest * ((total - room.where(full, 0).sum()) / rest.sum().clamp(min=tiny))
    whole = torch.minimum(exact.long().clamp(min=0), room).where(~full, room)
    remainder = ((exact - whole) * STEPS).round().masked_fill(whole >= room, -torch.inf)
    return whole + lowest(-remainder[None], (total - whole.sum()).view(1), len(whole))[0]
