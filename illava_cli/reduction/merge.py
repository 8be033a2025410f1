"""`Merge`: what every method returns, merging or pruning, in the vision tower or in the LLM.

For each input token its output slot (or "dropped") and its weight there; for each output slot the
input token that anchors it, whose position it keeps. A method only decides who joins whom
(`Assignment`); numbering the slots, reducing tensors and composing stages is done here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums run in float32 whatever the model's dtype; float64 stays float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gather_tokens(x: Tensor, index: Tensor) -> Tensor:
    """`x` (B, N, ...) at `index` (B, M) -> (B, M, ...)."""
    expanded = index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand(*index.shape, *x.shape[2:])
    return x.gather(1, expanded)


@dataclass(frozen=True)
class Assignment:
    """Who joins whom, before slots are numbered.

    Args:
        target: (B, N) index of the input token that each token joins: itself for a survivor, -1 for
            a dropped token.
        weight: (B, N) weight of each token in its slot; the weights of a slot sum to 1.
    """

    target: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Merge:
    """A reduction of N tokens to M slots.

    Args:
        slot: (B, N) output slot of each input token, -1 if dropped.
        weight: (B, N) weight of each input token in its slot, 0 if dropped.
        anchor: (B, M) input token that each slot stands in for. A padding slot, which no token
            enters, points to token 0.
    """

    slot: Tensor
    weight: Tensor
    anchor: Tensor

    @staticmethod
    def identity(batch: int, tokens: int, device: torch.device | str = "cpu") -> Merge:
        """Every token its own slot."""
        index = torch.arange(tokens, device=device).expand(batch, tokens)
        return Merge(index, torch.ones(batch, tokens, device=device), index)

    @staticmethod
    def plain(slot: Tensor, anchor: Tensor) -> Merge:
        """Slots (B, N), -1 where a token is dropped, as plain means; `anchor` as in `Merge`."""
        inside, kept = slot.clamp(min=0), slot >= 0
        sizes = torch.zeros(anchor.shape, device=slot.device).scatter_add_(1, inside, kept.float())
        return Merge(slot, (1 / sizes.gather(1, inside)).where(kept, 0), anchor)

    @staticmethod
    def select(index: Tensor, tokens: int) -> Merge:
        """Of N = `tokens` those at `index` (B, M), in that order; -1 is a slot that no token enters."""
        slot = index.new_full((len(index), tokens + 1), -1)
        order = torch.arange(index.shape[1], device=index.device).expand_as(index)
        slot.scatter_(1, index.where(index >= 0, tokens), order)
        slot = slot[:, :tokens]
        return Merge(slot, (slot >= 0).to(torch.float32), index.clamp(min=0))

    @staticmethod
    def cat(merges: Sequence[Merge]) -> Merge:
        """More rows of as many tokens and slots."""
        parts = zip(*((m.slot, m.weight, m.anchor) for m in merges), strict=True)
        return Merge(*map(torch.cat, parts))

    @staticmethod
    def beside(merges: Sequence[Merge]) -> Merge:
        """The rows of all `merges`, one after another, as one: (1, sum of all N) to (1, sum of all M)."""
        rows = [row for merge in merges for row in zip(merge.slot, merge.weight, merge.anchor, strict=True)]
        slots, anchors, tokens, length = [], [], 0, 0
        for slot, _, anchor in rows:
            slots.append((slot + length).where(slot >= 0, -1))
            anchors.append(anchor + tokens)
            tokens, length = tokens + len(slot), length + len(anchor)
        weights = [weight for _, weight, _ in rows]
        return Merge(*(torch.cat(parts)[None] for parts in (slots, weights, anchors)))

    @staticmethod
    def from_assignment(assignment: Assignment, length: int, valid: Tensor | None = None) -> Merge:
        """Number the survivors in their own order.

        Args:
            assignment: who joins whom, (B, N).
            length: M, the number of slots, known on the host.
            valid: (B, N) False for padding tokens, which leave without a trace.
        """
        target, weight = assignment.target, assignment.weight
        index = torch.arange(target.shape[1], device=target.device).expand_as(target)
        survives = target == index
        if valid is not None:
            survives = survives & valid
            target = target.where(valid, -1)
        number = survives.cumsum(1) - 1
        slot = number.gather(1, target.clamp(min=0)).where(target >= 0, -1)
        # one spare slot takes the tokens that do not survive
        anchor = target.new_zeros(target.shape[0], length + 1)
        anchor.scatter_(1, number.where(survives, length), index)
        return Merge(slot, weight.where(slot >= 0, 0), anchor[:, :length])

    def apply(self, x: Tensor) -> Tensor:
        """Weighted sums of `x` (B, N, ...) per slot -> (B, M, ...), in x's dtype."""
        wide = accumulation_dtype(x.dtype)
        flat = x.flatten(2) if x.dim() > 2 else x.unsqueeze(-1)  # (B, N, C)
        weighted = flat.to(wide) * self.weight.to(wide).unsqueeze(-1)
        index = self.slot.clamp(min=0).unsqueeze(-1).expand_as(weighted)
        out = weighted.new_zeros(x.shape[0], self.anchor.shape[1], flat.shape[-1])
        out.scatter_add_(1, index, weighted)
        return out.to(x.dtype).reshape(x.shape[0], self.anchor.shape[1], *x.shape[2:])

    def total(self, x: Tensor) -> Tensor:
        """Plain sums of `x` (B, N) per slot -> (B, M): how many tokens each slot stands for."""
        out = x.new_zeros(self.anchor.shape)
        return out.scatter_add_(1, self.slot.clamp(min=0), x.where(self.slot >= 0, 0))

    def keep(self, x: Tensor) -> Tensor:
        """`x` (B, N, ...) of each slot's anchor -> (B, M, ...): positions, rotary embeddings, masks."""
        return gather_tokens(x, self.anchor)

    def then(self, later: Merge) -> Merge:
        """This reduction followed by `later`, as one: input tokens of this -> slots of `later`."""
        inside = self.slot.clamp(min=0)
        kept = self.slot >= 0
        slot = later.slot.gather(1, inside).where(kept, -1)
        weight = (self.weight * later.weight.gather(1, inside).to(self.weight.dtype)).where(slot >= 0, 0)
        return Merge(slot, weight, self.anchor.gather(1, later.anchor))

    def rows(self, cut: slice | Tensor) -> Merge:
        """Some of the B rows."""
        return Merge(self.slot[cut], self.weight[cut], self.anchor[cut])

    def repeated(self, times: int) -> Merge:
        """The only row so many times."""
        return Merge(*(x.expand(times, -1) for x in (self.slot, self.weight, self.anchor)))

    def to(self, device: torch.device | str) -> Merge:
        """The same reduction on another device."""
        return Merge(self.slot.to(device), self.weight.to(device), self.anchor.to(device))
