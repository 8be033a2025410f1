"""Ours: what stays the same is averaged over time, and of the rest the attended and distinct remain.

A token is static where the first token of its place's run stands in for it better than the mean of its own
frame does. That asks no threshold: it is a cosine of one half between the two once the frame's mean is taken
from both, whatever all features of a model have in common.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.candidates import most_similar
from illava_cli.reduction.clips.tokens import ClipTokens, averaged, highest, keeping, squared
from illava_cli.reduction.merge import Assignment


def distinct(tokens: ClipTokens) -> Assignment:
    """Static tokens join the first of their run; of the rest the least attended and distinct are dropped."""
    target, kept = _chosen(tokens)
    stays = kept.flatten().gather(0, target.clamp(min=0).flatten()).view_as(kept) & tokens.valid
    return averaged(tokens, target.where(stays, -1))


def distinct_assign(tokens: ClipTokens) -> Assignment:
    """As `distinct`, but who would be dropped joins the most similar token that remains, in any frame."""
    if tokens.left == tokens.present:
        return keeping(tokens, tokens.valid)
    target, kept = _chosen(tokens)
    # first those that remain, then those that leave, of which the host knows how many, then what is no token
    order = (kept.int() + tokens.valid.int()).flatten().argsort(descending=True, stable=True)
    remain, leave = order[: tokens.left], order[tokens.left : tokens.present]
    directions = tokens.directions.flatten(0, 1)[None]
    everyone = torch.ones_like(remain, dtype=torch.bool)[None]
    _, nearest = most_similar(directions[:, leave], directions[:, remain], everyone)
    into = tokens.index.flatten().scatter(0, leave, remain.gather(0, nearest[0]))
    into = into.gather(0, target.clamp(min=0).flatten()).view_as(target)
    return averaged(tokens, into.where(tokens.valid, -1))


def _chosen(tokens: ClipTokens) -> tuple[Tensor, Tensor]:
    """Whom each token joins (F, P), -1 for no token, and who remains.

    Where averaging alone would leave fewer than are to remain, the least alike do not join.
    """
    first, likeness, apart = _runs(tokens)
    begins = (first == tokens.index) & tokens.valid
    value = -(_place(_shared(tokens, first), begins) + _place(apart, begins)).to(tokens.dtype)
    kept = highest(tokens.left, tokens.valid.int() + begins.int(), value.where(begins, -likeness))
    return tokens.index.where(kept, first).where(tokens.valid, -1), kept


def _runs(tokens: ClipTokens) -> tuple[Tensor, Tensor, Tensor]:
    """Of each token (F, P): its run's first token, their cosine, and the distance from what is usual.

    The last is the squared distance from the mean of the frame and that from the mean of the clip, added.
    """
    directions = tokens.directions
    sums = directions.sum(1)  # (F, C)
    from_frame = squared(directions, sums / tokens.counts.clamp(min=1).unsqueeze(-1))
    from_clip = squared(directions, (sums.sum(0) / tokens.present).expand_as(sums))
    anchor, place = torch.zeros_like(directions[0]), tokens.index[0]
    seen = torch.zeros_like(tokens.valid[0])
    places, likeness = [], []
    for frame, (here, there) in enumerate(zip(directions, tokens.valid, strict=True)):
        cosine = (here * anchor).sum(-1)
        begins = there & ~(seen & (2 - 2 * cosine < from_frame[frame]))
        anchor = here.where(begins.unsqueeze(-1), anchor)
        place = tokens.index[frame].where(begins, place)
        seen = seen | there
        places.append(place)
        likeness.append(cosine)
    return torch.stack(places), torch.stack(likeness), from_frame + from_clip


def _shared(tokens: ClipTokens, first: Tensor) -> Tensor:
    """(F, P) for each run's first token the mean attention of the run; elsewhere nothing of meaning."""
    joins, sums = tokens.valid.to(tokens.dtype), torch.zeros_like(tokens.attention).flatten()
    sizes = torch.zeros_like(sums).scatter_add_(0, first.flatten(), joins.flatten())
    for into, scores in zip(first, tokens.attention.where(tokens.valid, 0), strict=True):
        sums.scatter_add_(0, into, scores)  # frame by frame, so always in the same order
    return (sums / sizes.clamp(min=1)).view_as(joins)


def _place(values: Tensor, among: Tensor) -> Tensor:
    """(F, P) how many of `among` (F, P) are higher; ties: the lower index counts as higher."""
    order = values.masked_fill(~among, -torch.inf).flatten().argsort(descending=True, stable=True)
    return order.argsort(stable=True).view_as(values)
