"""K-means over the keys: as many clusters as tokens are to remain (iLLaVA's table 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.candidates import CHUNK_BYTES, Candidates, averaged, lowest
from illava_cli.reduction.merge import Assignment, gather_tokens

ITERATIONS = 5


def kmeans(tokens: Candidates) -> Assignment:
    """Five iterations of Lloyd's algorithm from evenly spaced tokens; each cluster becomes its mean, by size.

    A cluster stands in the place of its most attended member. Where clusters have lost all members in the
    end, the tokens farthest from their centres stay alone instead, so that the budget is met exactly.
    """
    keys, present = tokens.keys.to(tokens.sizes.dtype), tokens.valid.unsqueeze(-1)
    # distances stay what they are, and what all keys have in common does not drown them
    keys = keys - (keys * present).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)
    clusters = max(n - removed for n, removed in tokens.budgets)
    number = torch.arange(clusters, device=keys.device)
    exists = number < tokens.left[:, None]  # (B, K)
    # the j-th of K seeds is the token in the middle of the j-th of K equal stretches
    in_order = (~tokens.valid).long().argsort(dim=1, stable=True)
    rank = (2 * number + 1) * tokens.valid.sum(1, keepdim=True) // (2 * tokens.left.clamp(min=1)[:, None])
    centres = gather_tokens(keys, in_order.gather(1, rank.clamp(max=keys.shape[1] - 1)))  # (B, K, C)

    sizes = tokens.sizes * tokens.valid
    for _ in range(ITERATIONS):
        cluster, _ = _nearest(keys, centres, exists)
        index = cluster.unsqueeze(-1).expand_as(keys)
        total = torch.zeros_like(centres[..., 0]).scatter_add(1, cluster, sizes)
        sums = torch.zeros_like(centres).scatter_add(1, index, keys * sizes.unsqueeze(-1))
        centres = (sums / total.clamp(min=1).unsqueeze(-1)).where((total > 0).unsqueeze(-1), centres)

    cluster, distance = _nearest(keys, centres, exists)
    place = _most_attended(tokens, cluster, clusters)
    leads = place == tokens.index
    empty = tokens.left - (leads & tokens.valid).sum(1)
    alone = lowest((-distance).masked_fill(leads, torch.inf), empty, keys.shape[1])
    return averaged(tokens, tokens.index.where(alone, place))


def _most_attended(tokens: Candidates, cluster: Tensor, clusters: int) -> Tensor:
    """The place (B, N) of the most attended member of each token's cluster; ties: lower index."""
    count = cluster.shape[1]
    cluster = cluster.where(tokens.valid, clusters)  # one spare cluster takes what is no token
    most = tokens.scores.new_full((len(cluster), clusters + 1), -torch.inf)
    most = most.scatter_reduce(1, cluster, tokens.scores, "amax")
    leads = tokens.scores == most.gather(1, cluster)
    first = torch.full_like(most, count, dtype=torch.long)
    first = first.scatter_reduce(1, cluster, tokens.index.where(leads, count), "amin")
    return first.gather(1, cluster).where(tokens.valid, tokens.index)


def _nearest(keys: Tensor, centres: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
    """Each token's nearest centre (B, N), and the square of its distance; in blocks of tokens."""
    step = max(1, CHUNK_BYTES // (centres.shape[0] * centres.shape[1] * centres.element_size()))
    lengths, found = (centres**2).sum(-1)[:, None].masked_fill(~exists[:, None], torch.inf), []
    for start in range(0, keys.shape[1], step):
        part = keys[:, start : start + step]
        squares = (part**2).sum(-1, keepdim=True) - 2 * part @ centres.mT + lengths  # (B, step, K)
        found.append(squares.min(-1))
    return torch.cat([f.indices for f in found], dim=1), torch.cat([f.values for f in found], dim=1)
