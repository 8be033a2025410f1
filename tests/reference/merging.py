"""The merge and the scores, as they are defined, one token at a time."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from tests.reduction import slow


def merge_plan(scores: list[float], r: int, padding: Collection[int] = ()):
    """The r+1 lowest, ascending (ties: lower index first), are pooled into the last of them: r+1, r, ... 1.

    Padding comes before all else, by index. What is padding among the r that leave is dropped, not pooled;
    the weights of the others go on from there. Returns the indices that stay (in order), the one of them that
    is replaced, and what by: (index, weight) with weights that sum to 1.
    """
    if not 0 <= r < len(scores):
        raise ValueError(f"cannot remove {r} of {len(scores)} tokens: at least one must stay")
    order = sorted(range(len(scores)), key=lambda i: (0, i) if i in padding else (1, scores[i], i))
    leaving, anchor = order[:r], order[r]
    pooled = [i for i in leaving if i not in padding] + [anchor]
    weights = range(len(pooled), 0, -1)
    parts = [(i, weight / sum(weights)) for i, weight in zip(pooled, weights, strict=True)]
    return [i for i in range(len(scores)) if i not in leaving], anchor, parts


def members(method: str, keys: Tensor, scores: list[float], sizes: list[float], r: int, padding=(), before=0):
    """{survivor: {token: weight}} under a method; `illava` by the definition above.

    `before`: class tokens that stand before these.
    """
    if method != "illava":
        marks = [i in padding for i in range(len(scores))]
        wide = torch.tensor(scores, dtype=torch.float64)
        return slow.members(method, keys, wide, torch.tensor(sizes), r, marks, before)
    kept, anchor, parts = merge_plan(scores, r, padding)
    return {i: dict(parts) if i == anchor else {i: 1.0} for i in kept}


def weighted_sum(x: Tensor, parts: list[tuple[int, float]]) -> Tensor:
    """sum of weight * x[index], accumulated in float32 (float64 for float64), in x's dtype."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return sum(weight * x[i].to(wide) for i, weight in parts).to(x.dtype)


def merge(
    x: Tensor,
    keys: Tensor,
    scores: list[float],
    sizes: list[float],
    r: int,
    method: str,
    padding=(),
    before=0,
):
    """N -> N - r along the first dimension: x, the index of each survivor's anchor, and its size."""
    found = members(method, keys, scores, sizes, r, padding, before)
    kept = sorted(found)
    parts = [list(found[i].items()) for i in kept]
    x = torch.stack([x[i] if len(p) == 1 else weighted_sum(x, p) for i, p in zip(kept, parts, strict=True)])
    return x, kept, [sum(sizes[i] for i, _ in p) for p in parts]


def received(attention: Tensor, variant: str) -> list[float]:
    """Eq. 1 on a map (H, queries, keys): mean over heads and the other tokens ("authors": over all)."""
    rows = attention.double().mean(0).tolist()
    n = len(rows)
    if variant == "authors":
        return [sum(rows[k][i] for k in range(n)) / n for i in range(n)]
    return [sum(rows[k][i] for k in range(n) if k != i) / (n - 1) for i in range(n)]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False, sizes=None):
    """softmax(q k^T + log sizes) v of (H, N, D), in their own dtype -> (N, H*D) and the map (H, N, N)."""
    logits = q @ k.transpose(1, 2) * scale
    if sizes is not None:
        logits = logits + torch.tensor(sizes, dtype=logits.dtype).log()
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[1:], dtype=torch.bool).triu(1), -math.inf)
    attention = torch.softmax(logits, dim=-1)
    return (attention @ v).transpose(0, 1).flatten(1), attention
