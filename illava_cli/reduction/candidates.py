"""`Candidates`: what a method knows of the tokens among which it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.merge import Assignment, accumulation_dtype

CHUNK_BYTES = 16 << 20  # of one block of similarities


@dataclass(frozen=True)
class Candidates:
    """N tokens in each of B rows; a row may have fewer, and a budget of its own.

    Args:
        scores: (B, N) attention received; infinite where there is no token.
        budgets: (tokens, tokens to remove) of each row as the host knows them, or one for all. With
            padding that has left before, a row has as many fewer of both.
        counts: (B,) tokens to remove; 0 leaves a row as it is.
        valid: (B, N) False where there is no token.
        keys: (B, N, C) each token's attention keys as the queries meet them, after a rotary embedding where
            there is one, for the methods that compare tokens.
        sizes: (B, N) how many tokens each stands for, from earlier merges.
        before: tokens that stand before these and never merge (CLIP's class token), where places count.
    """

    scores: Tensor
    budgets: Sequence[tuple[int, int]]
    counts: Tensor
    valid: Tensor
    keys: Tensor | None
    sizes: Tensor
    before: int = 0

    @staticmethod
    def of(
        scores: Tensor,
        budgets: Sequence[tuple[int, int]],
        *,
        counts: Tensor | None = None,
        valid: Tensor | None = None,
        keys: Tensor | None = None,
        sizes: Tensor | None = None,
        before: int = 0,
    ) -> Candidates:
        """With what is not given filled in: one budget for all rows, all tokens valid, each of size 1."""
        scores = scores.to(accumulation_dtype(scores.dtype))
        if counts is None:
            counts = torch.full(scores.shape[:1], budgets[0][1], device=scores.device)
        if valid is None:
            valid = torch.ones_like(scores, dtype=torch.bool)
        sizes = torch.ones_like(scores) if sizes is None else sizes.to(scores.dtype)
        return Candidates(scores.masked_fill(~valid, torch.inf), budgets, counts, valid, keys, sizes, before)

    def without(self, leaving: Tensor) -> Candidates:
        """As if `leaving` (B, N) had never been there; they count as removed."""
        return replace(
            self,
            scores=self.scores.masked_fill(leaving, torch.inf),
            counts=self.counts - leaving.sum(1),
            valid=self.valid & ~leaving,
        )

    @cached_property
    def r(self) -> int:
        """The largest number of tokens that a row loses."""
        return max(removed for _, removed in self.budgets)

    @cached_property
    def index(self) -> Tensor:
        """(B, N) each token's own index."""
        return torch.arange(self.scores.shape[1], device=self.scores.device).expand_as(self.valid)

    @cached_property
    def left(self) -> Tensor:
        """(B,) tokens that remain in each row."""
        return self.valid.sum(1) - self.counts

    @cached_property
    def directions(self) -> Tensor:
        """(B, N, C) keys of length 1: their products are cosines."""
        return normalize(self.keys.to(accumulation_dtype(self.keys.dtype)), dim=-1)


def lowest(order: Tensor, counts: Tensor, most: int) -> Tensor:
    """(B, N) True for the `counts` (B,) lowest of `order` in each row, at most `most`; ties: lower index."""
    first = order.argsort(dim=1, stable=True)[:, :most]
    chosen = torch.arange(first.shape[1], device=order.device) < counts[:, None]
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, first, chosen)


def dropped(tokens: Candidates, leaving: Tensor) -> Assignment:
    """`leaving` (B, N) go without a trace, all others stay as they are."""
    return Assignment(tokens.index.masked_fill(leaving, -1), torch.ones_like(tokens.scores))


def averaged(tokens: Candidates, target: Tensor, weights: Tensor | None = None) -> Assignment:
    """Each token joins its `target` (B, N), and slots are means weighted by `weights` (B, N).

    Args:
        weights: above 0; the default is by size (ToMe, section 3).
    """
    weights = tokens.sizes if weights is None else weights
    totals = torch.zeros_like(weights).scatter_add(1, target, weights)
    return Assignment(target, weights / totals.gather(1, target))


def most_similar(proposing: Tensor, proposed: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The highest cosine of each of (B, P, C) with the `allowed` (B, Q) of (B, Q, C), and whose it is.

    In blocks: a map of all pairs would grow with the square of the tokens. Ties: lower index.
    """
    batch, count, _ = proposed.shape
    step = max(1, CHUNK_BYTES // (batch * count * proposed.element_size()))
    found = []
    for start in range(0, proposing.shape[1], step):
        cosine = proposing[:, start : start + step] @ proposed.mT  # (B, step, Q)
        found.append(cosine.masked_fill(~allowed[:, None], -torch.inf).max(-1))
    return torch.cat([f.values for f in found], dim=1), torch.cat([f.indices for f in found], dim=1)


def joined(tokens: Candidates, leaving: Tensor, weights: Tensor | None = None) -> Assignment:
    """Each of `leaving` (B, N) joins the most similar of those that stay, by cosine; ties: lower index."""
    _, nearest = most_similar(tokens.directions, tokens.directions, tokens.valid & ~leaving)
    return averaged(tokens, nearest.where(leaving, tokens.index), weights)
