"""Greedy merging: again and again the most similar pair becomes one (iLLaVA's table 7).

Exact and slow by design: r steps one after the other, each over all pairs, which an N x N matrix holds. It
never waits for the host.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from illava_cli.reduction.candidates import Candidates, averaged
from illava_cli.reduction.merge import Assignment


def greedy(tokens: Candidates) -> Assignment:
    """Merge the pair with the highest cosine of keys, the lower index staying, until the budget is reached.

    A merged token's key is the mean of its members', weighted by size.
    """
    directions = tokens.directions.clone()
    batch, count, _ = directions.shape
    row = torch.arange(batch, device=directions.device)
    sums = tokens.keys.to(tokens.sizes.dtype) * tokens.sizes.unsqueeze(-1)  # (B, N, C)
    cosine = directions @ directions.mT
    cosine.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    cosine.masked_fill_(~(tokens.valid[:, :, None] & tokens.valid[:, None]), -torch.inf)
    target = tokens.index.clone()
    alive = tokens.valid.clone()
    for step in range(tokens.r):
        goes_on = step < tokens.counts  # (B,)
        pair = cosine.flatten(1).argmax(1)
        first, second = pair // count, pair % count
        stays, leaves = torch.minimum(first, second), torch.maximum(first, second)
        leaves = leaves.where(goes_on, stays)  # a row that is done merges a token with itself
        target = target.where(target != leaves[:, None], stays[:, None])
        sums[row, stays] += sums[row, leaves] * goes_on[:, None]
        alive[row, leaves] &= ~goes_on
        directions[row, stays] = normalize(sums[row, stays], dim=-1)
        new = (directions @ directions[row, stays].unsqueeze(-1)).squeeze(-1).masked_fill(~alive, -torch.inf)
        new[row, stays] = -torch.inf
        cosine[row, leaves] = -torch.inf
        cosine[row, :, leaves] = -torch.inf
        cosine[row, stays] = new
        cosine[row, :, stays] = new
    return averaged(tokens, target)
