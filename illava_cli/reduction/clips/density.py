"""Density peaks, by which HoliTom and FastVID cluster: a centre is dense, and far from whatever is denser.

The noise by which their code tells equal densities apart is the order of the tokens here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.candidates import CHUNK_BYTES

BETA = 0.6  # in both, what a centre weighs that others join


def blocks(frames: int, places: int) -> list[slice]:
    """Frames whose distances within each fit into memory together."""
    step = max(1, CHUNK_BYTES // (places**2 * 4))
    return [slice(start, start + step) for start in range(0, frames, step)]


def distances(features: Tensor, among: Tensor) -> Tensor:
    """(F, P, P) Euclidean distances within each frame of (F, P, C), over the root of C.

    They are inf for tokens that are not `among` (F, P).
    """
    features = features.masked_fill(~among.unsqueeze(-1), 0)
    # what all have in common would drown their distances
    features = features - (features.sum(1) / among.sum(1, keepdim=True).clamp(min=1)).unsqueeze(1)
    apart = torch.cdist(features, features) / features.shape[2] ** 0.5
    apart = torch.maximum(apart, apart.mT)  # alike both ways to the last bit
    apart.diagonal(dim1=1, dim2=2).fill_(0)
    return apart.masked_fill_(~(among.unsqueeze(1) & among.unsqueeze(2)), torch.inf)


def peaks(apart: Tensor, among: Tensor, neighbours: Tensor, most: int) -> Tensor:
    """(F, P) how much of a centre each token is: its density times the distance to the nearest denser one.

    The density is exp of minus the mean squared distance of its nearest neighbours, itself included. The
    densest of a frame has the largest distance between any two.

    Args:
        apart: (F, P, P) `distances`.
        among: (F, P) True for the tokens in question; the others have -inf.
        neighbours: (F,) how many count, `most` at most.
    """
    squares = apart.topk(min(most, apart.shape[2]), largest=False).values ** 2
    neighbours = neighbours.view(-1, 1, 1)
    counted = torch.arange(squares.shape[2], device=apart.device) < neighbours
    density = torch.exp(-squares.where(counted, 0).sum(2) / neighbours[:, 0].clamp(min=1))
    mine, theirs = density.unsqueeze(2), density.unsqueeze(1)
    index = torch.arange(density.shape[1], device=apart.device)
    denser = (theirs > mine) | ((theirs == mine) & (index < index[:, None]))
    largest = apart.masked_fill(apart.isinf(), 0).amax((1, 2))
    nearest = torch.minimum(apart.masked_fill(~denser, torch.inf).amin(2), largest[:, None])
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
