"""The paper's method: the least attended tokens become one (iLLaVA, arXiv 2412.06263, section 3.2).

The r+1 lowest-scored tokens, ascending, are weighted r+1, r, ..., 1 (normalised to sum 1) and their
sum takes the place of the highest-scored of them (the paper appends it, its authors' code puts it
there). All others are untouched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.merge import Assignment, accumulation_dtype


def illava(
    scores: Tensor,
    r: int,
    *,
    counts: Tensor | None = None,
    valid: Tensor | None = None,
    padding: Tensor | None = None,
) -> Assignment:
    """Merge the least attended tokens of each row into one.

    Args:
        scores: (B, N) attention received. Ties: the lower index goes first.
        r: tokens removed per row; with `counts`, the largest of them.
        counts: (B,) tokens removed in each row, where rows differ; 0 leaves a row as it is.
        valid: (B, N) False where a row has no token (rows of different length).
        padding: (B, N) True for patches of image padding: they leave first and are dropped, not merged.

    Returns:
        `Assignment`; `N - r` tokens of a row survive.
    """
    batch, tokens = scores.shape
    index = torch.arange(tokens, device=scores.device).expand(batch, tokens)
    weight = torch.ones(batch, tokens, device=scores.device, dtype=accumulation_dtype(scores.dtype))
    if r == 0:
        return Assignment(index, weight)

    if padding is not None:
        scores = scores.masked_fill(padding, -torch.inf)
    if valid is not None:
        scores = scores.masked_fill(~valid, torch.inf)
    lowest = scores.argsort(dim=1, stable=True)[:, : r + 1]  # (B, r+1), ascending
    removed = counts if counts is not None else torch.full((batch,), r, device=scores.device)
    rank = torch.arange(lowest.shape[1], device=scores.device)
    pooled = (rank <= removed[:, None]) & (removed > 0)[:, None]
    if padding is not None:
        # padding that leaves in this step takes its share of r with it
        dropped = padding.gather(1, lowest) & (rank < removed[:, None])
    else:
        dropped = torch.zeros_like(pooled)
    pooled = pooled & ~dropped

    linear = (removed[:, None] + 1 - rank).to(weight.dtype).where(pooled, 0)  # r+1, r, ..., 1
    share = linear / linear.sum(1, keepdim=True).clamp(min=1)
    anchor = lowest.gather(1, removed[:, None])  # the highest-scored of the r+1
    own = index.gather(1, lowest)
    target = anchor.expand_as(lowest).where(pooled, own).where(~dropped, -1)
    share = share.where(pooled, (~dropped).to(weight.dtype))
    return Assignment(index.scatter(1, lowest, target), weight.scatter(1, lowest, share))
