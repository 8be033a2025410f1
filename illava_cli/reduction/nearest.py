"""Fewer cells for a pooled grid whose cells did not all survive (layout `faithful`).

Where a model pools N cells to fewer and n of the N have survived the tower, as large a share of the n
remains: those with most attention received. Every other survivor joins the nearest of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.merge import Assignment, accumulation_dtype

CHUNK_CELLS = 1 << 23  # distances held at once


def nearest(scores: Tensor, rows: Tensor, columns: Tensor, m: int) -> Assignment:
    """Keep the `m` most attended survivors of each grid; the others join the nearest, averaged plainly.

    Args:
        scores: (B, N) attention received. Ties: the lower index is kept.
        rows, columns: (B, N) integer places on the grid. Equal distances: the lower index.
        m: survivors that remain, 1 <= m <= N.
    """
    batch, tokens = scores.shape
    kept = scores.argsort(dim=1, descending=True, stable=True)[:, :m].sort(dim=1).values  # (B, m)
    step = max(1, CHUNK_CELLS // (batch * m))
    closest = []
    for start in range(0, tokens, step):
        squared = torch.zeros(batch, min(step, tokens - start), m, device=scores.device)
        for place in (rows, columns):
            far = place[:, start : start + step, None] - place.gather(1, kept)[:, None, :]
            squared += far.to(squared.dtype) ** 2
        closest.append(squared.argmin(dim=2))
    target = kept.gather(1, torch.cat(closest, dim=1))
    # two survivors never share a place, so that a kept one is its own nearest
    size = torch.zeros(batch, tokens, device=scores.device, dtype=accumulation_dtype(scores.dtype))
    size.scatter_add_(1, target, torch.ones_like(size))
    return Assignment(target, 1 / size.gather(1, target))
