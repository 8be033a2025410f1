"""The paper's method: the least attended tokens become one (iLLaVA, arXiv 2412.06263, section 3.2).

The r+1 lowest-scored tokens, ascending, are weighted r+1, r, ..., 1 (normalised to sum 1) and their
sum takes the place of the highest-scored of them (the paper appends it, its authors' code puts it
there). All others are untouched.
"""

from __future__ import annotations

import torch

from illava_cli.reduction.candidates import Candidates
from illava_cli.reduction.merge import Assignment


def illava(tokens: Candidates) -> Assignment:
    """Merge the least attended tokens of each row into one. Ties: the lower index goes first."""
    lowest = tokens.scores.argsort(dim=1, stable=True)[:, : tokens.r + 1]  # (B, r+1), ascending
    removed = tokens.counts[:, None]
    rank = torch.arange(lowest.shape[1], device=lowest.device)
    pooled = (rank <= removed) & (removed > 0)

    linear = (removed + 1 - rank).to(tokens.scores.dtype).where(pooled, 0)  # r+1, r, ..., 1
    share = (linear / linear.sum(1, keepdim=True).clamp(min=1)).where(pooled, 1)
    anchor = lowest.gather(1, removed)  # the highest-scored of the r+1
    target = anchor.expand_as(lowest).where(pooled, lowest)
    weight = torch.ones_like(tokens.scores)
    return Assignment(tokens.index.scatter(1, lowest, target), weight.scatter(1, lowest, share))
