"""Density peaks, by which HoliTom and FastVID cluster: a centre is dense, and far from whatever is denser.

The noise by which their code tells equal densities apart is the order of the tokens here.
"""

from __future__ import annotations

import torch
from torch import Tensor

BETA = 0.6  # in both, what a centre weighs that others join


def distances(features: Tensor, among: Tensor) -> Tensor:
    """(P, P) Euclidean distances of tokens (P, C), over the root of C; inf for those not `among` (P,)."""
    features = features.masked_fill(~among.unsqueeze(-1), 0)
    # what all have in common would drown their distances
    features = features - features.sum(0) / among.sum().clamp(min=1)
    apart = torch.cdist(features, features) / features.shape[1] ** 0.5
    apart = torch.maximum(apart, apart.mT)  # alike both ways to the last bit
    apart.fill_diagonal_(0)
    return apart.masked_fill_(~(among & among.unsqueeze(-1)), torch.inf)


def peaks(apart: Tensor, among: Tensor, neighbours: Tensor, most: int) -> Tensor:
    """(P,) how much of a centre each token is: its density times the distance to the nearest denser one.

    The density is exp of minus the mean squared distance of its nearest neighbours, itself included. The
    densest of all has the largest distance between any two.

    Args:
        apart: (P, P) `distances`.
        among: (P,) True for the tokens in question; the others have -inf.
        neighbours: (1,) how many count, `most` at most.
    """
    squares = apart.sort(dim=1).values[:, :most] ** 2
    counted = torch.arange(squares.shape[1], device=apart.device) < neighbours
    density = torch.exp(-squares.where(counted, 0).sum(1) / neighbours.clamp(min=1))
    index = torch.arange(len(density), device=apart.device)
    denser = (density > density[:, None]) | ((density == density[:, None]) & (index < index[:, None]))
    largest = apart.masked_fill(apart.isinf(), 0).amax()
    nearest = torch.minimum(apart.masked_fill(~denser, torch.inf).amin(1), largest)
    return (nearest * density).masked_fill(~among, -torch.inf)


def fused(target: Tensor, dtype: torch.dtype) -> Tensor:
    """(N,) weights of tokens that join `target` (N,), -1 for none.

    Whom others join has BETA, and they share the rest; whom nobody joins has all.
    """
    index = torch.arange(len(target), device=target.device)
    joins = (target >= 0) & (target != index)
    others = torch.zeros(len(target), dtype=dtype, device=target.device)
    others = others.scatter_add(0, target.clamp(min=0), joins.to(dtype))
    share = (1 - BETA) / others.gather(0, target.clamp(min=0))
    return share.where(joins, torch.ones_like(share).masked_fill(others > 0, BETA))
