"""Ours: survivors that differ from each other, and what becomes of the others.

Who stays is decided by attention, by attention and novelty, or by farthest points on the keys; who leaves is
dropped, or joins the most similar survivor, so that no heap of unlike tokens is made (`assign`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from illava_cli.reduction.candidates import Candidates, dropped, joined, lowest
from illava_cli.reduction.merge import Assignment


def assign(tokens: Candidates) -> Assignment:
    """The least attended join the most similar survivor."""
    return joined(tokens, lowest(tokens.scores, tokens.counts, tokens.r))


def novelty(tokens: Candidates) -> Assignment:
    """The least attended and least unlike the mean key are dropped."""
    return dropped(tokens, _familiar(tokens))


def novelty_assign(tokens: Candidates) -> Assignment:
    """The least attended and least unlike the mean key join the most similar survivor."""
    return joined(tokens, _familiar(tokens))


def diversity(tokens: Candidates) -> Assignment:
    """All but the farthest points on the keys are dropped."""
    return dropped(tokens, _crowded(tokens))


def diversity_assign(tokens: Candidates) -> Assignment:
    """All but the farthest points on the keys join the most similar survivor."""
    return joined(tokens, _crowded(tokens))


def _familiar(tokens: Candidates) -> Tensor:
    """The lowest sum of two ranks, that of attention and that of the key's distance from the mean key."""
    present = tokens.valid.unsqueeze(-1)
    mean = (tokens.directions * present).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)
    strange = (1 - cosine_similarity(tokens.directions, mean, dim=-1)).masked_fill(~tokens.valid, torch.inf)
    ranks = [x.argsort(dim=1, stable=True).argsort(dim=1) for x in (tokens.scores, strange)]
    order = (ranks[0] + ranks[1]).to(tokens.scores.dtype).masked_fill(~tokens.valid, torch.inf)
    return lowest(order, tokens.counts, tokens.r)


def _crowded(tokens: Candidates) -> Tensor:
    """All but the points chosen one by one, each the farthest from those before; the most attended begins."""
    row = torch.arange(len(tokens.scores), device=tokens.scores.device)
    chosen = torch.zeros_like(tokens.valid)
    newest = tokens.scores.masked_fill(~tokens.valid, -torch.inf).argmax(1)
    closest = torch.full_like(tokens.scores, -torch.inf)  # the highest cosine with a chosen point
    for step in range(max(n - removed for n, removed in tokens.budgets)):
        chosen[row, newest] |= step < tokens.left
        cosine = (tokens.directions @ tokens.directions[row, newest].unsqueeze(-1)).squeeze(-1)
        closest = torch.maximum(closest, cosine)
        newest = closest.masked_fill(chosen | ~tokens.valid, torch.inf).argmin(1)
    return tokens.valid & ~chosen
