"""Bipartite soft matching (ToMe, arXiv 2210.09461, section 3): every other token may join one of the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.candidates import Candidates, averaged, most_similar
from illava_cli.reduction.merge import Assignment


def bipartite(tokens: Candidates) -> Assignment:
    """Tokens at even places propose to the most similar at odd ones; the closest pairs merge, by size.

    Places count from the class token, where there is one: then the first patch is proposed to. One round
    removes at most half of the tokens, as published; for more the survivors go another round, their keys
    being the means of what they stand for.
    """
    target, alive = tokens.index, tokens.valid
    sums = tokens.keys.to(tokens.sizes.dtype) * tokens.sizes.unsqueeze(-1)
    missing = tokens.counts
    for _ in range(max(_rounds(*budget) for budget in tokens.budgets)):
        partner, leaves = _round(normalize(sums, dim=-1), alive, missing, tokens.before)
        into = partner.where(leaves, tokens.index)
        index = partner.unsqueeze(-1).expand_as(sums)
        sums = sums.scatter_add(1, index, sums * leaves.unsqueeze(-1))
        target = into.gather(1, target)
        alive, missing = alive & ~leaves, missing - leaves.sum(1)
    return averaged(tokens, target)


def _rounds(tokens: int, removed: int) -> int:
    rounds = 0
    while removed > 0:
        step = min(removed, tokens // 2)
        tokens, removed, rounds = tokens - step, removed - step, rounds + 1
    return rounds


def _round(directions: Tensor, alive: Tensor, missing: Tensor, before: int) -> tuple[Tensor, Tensor]:
    """Each token's partner (B, N), and whether it joins it."""
    order = (~alive).long().argsort(dim=1, stable=True)  # survivors first, in their order
    even, odd = order[:, before % 2 :: 2], order[:, (before + 1) % 2 :: 2]
    proposing, proposed = (
        directions.gather(1, x.unsqueeze(-1).expand(-1, -1, directions.shape[-1])) for x in (even, odd)
    )
    closest, partner = most_similar(proposing, proposed, alive.gather(1, odd))
    closest = closest.masked_fill(~alive.gather(1, even), -torch.inf)
    rank = (-closest).argsort(dim=1, stable=True).argsort(dim=1)
    allowed = torch.minimum(missing, alive.sum(1) // 2)
    joins = rank < allowed[:, None]
    leaves = torch.zeros_like(alive).scatter(1, even, joins)
    return torch.zeros_like(order).scatter(1, even, odd.gather(1, partner)), leaves
