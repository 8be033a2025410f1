"""Dropping instead of merging: the least attended tokens, or any (the baselines of iLLaVA's table 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.merge import Assignment, accumulation_dtype

MIX = (0x45D9F3B, 0x119DE1F3)  # odd multipliers that spread a number's bits


def attention_prune(
    scores: Tensor,
    r: int,
    *,
    counts: Tensor | None = None,
    valid: Tensor | None = None,
    padding: Tensor | None = None,
) -> Assignment:
    """Drop the least attended tokens of each row; arguments and result as of `illava`."""
    return _drop(scores, scores, r, counts, valid, padding)


def random(
    scores: Tensor,
    r: int,
    *,
    counts: Tensor | None = None,
    valid: Tensor | None = None,
    padding: Tensor | None = None,
) -> Assignment:
    """Drop tokens without regard to attention; arguments and result as of `illava`.

    The order is a hash of the scores' bits: it differs between images, and is the same for the same one,
    alone or in a batch, with no state to keep.
    """
    bits = scores.float().view(torch.int32).long() & 0xFFFFFFFF
    mixed = bits ^ (torch.arange(scores.shape[1], device=scores.device) * MIX[1] & 0xFFFFFFFF)
    for factor in MIX:
        mixed = ((mixed ^ (mixed >> 16)) * factor) & 0xFFFFFFFF
    order = (mixed ^ (mixed >> 16)).double()  # exact: infinities mark what is first and last
    return _drop(order, scores, r, counts, valid, padding)


def _drop(
    order: Tensor, scores: Tensor, r: int, counts: Tensor | None, valid: Tensor | None, padding: Tensor | None
) -> Assignment:
    """Drop the tokens that come first in `order` (B, N)."""
    batch, tokens = order.shape
    index = torch.arange(tokens, device=order.device).expand(batch, tokens)
    weight = torch.ones(batch, tokens, device=order.device, dtype=accumulation_dtype(scores.dtype))
    if r == 0:
        return Assignment(index, weight)
    if padding is not None:
        order = order.masked_fill(padding, -torch.inf)
    if valid is not None:
        order = order.masked_fill(~valid, torch.inf)
    first = order.argsort(dim=1, stable=True)[:, :r]
    removed = counts if counts is not None else torch.full((batch,), r, device=order.device)
    dropped = torch.arange(first.shape[1], device=order.device) < removed[:, None]
    return Assignment(index.scatter(1, first, first.masked_fill(dropped, -1)), weight)
