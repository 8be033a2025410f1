"""Fewer frames inside the tower: alike neighbours merge whole, token by token at the same place.

A method is a function `FrameTokens -> Assignment` over the F frames that leaves exactly `left` of them. A
round merges disjoint pairs of neighbours, so at most half of the frames; where more have to leave, what has
merged is compared anew. The earliest frame of those that merged is their anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.merge import Assignment, accumulation_dtype

TAU, WINDOW, EMA = 0.6, 8, 0.9  # EarlyTom's code: its defaults


@dataclass(frozen=True)
class FrameTokens:
    """F frames (or temporal patches) of as many tokens each.

    Args:
        features: (F, P, C) between two layers of the tower.
        left: how many frames remain, 1 <= left <= F.
    """

    features: Tensor
    left: int


def alike(frames: FrameTokens) -> Assignment:
    """The disjoint pairs of neighbours with the highest sum of mean cosines merge; slots are plain means."""

    def pairs(likeness: Tensor, sizes: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return matching(likeness.diagonal(1), count), sizes[:-1] / (sizes[:-1] + sizes[1:])

    return _in_rounds(frames, pairs)


def early_tom(frames: FrameTokens) -> Assignment:
    """EarlyTom (arXiv 2605.30010), as its code has it: pairs in the middle of a run of alike frames merge.

    A run ends where the smoothed likeness to its first frame falls below a threshold, or by its length. Its
    first and last frame stay. Of those between, two neighbours merge if they are more alike than the first is
    to the last, and than the later of them is to the next between; these two cosines weight the earlier and
    the later. (A last frame between that merges with none is lost there, and stays here.)

    The code merges as many as that finds. Here it is an exact number: of too many pairs the most alike; of
    too few others as well, that count as less alike by 2, the span of cosines.
    """

    def pairs(likeness: Tensor, sizes: Tensor, count: int) -> tuple[Tensor, Tensor]:
        cosine = likeness.diagonal(1)
        merges, between = _published(likeness)
        following = torch.cat([(cosine * between)[1:], cosine.new_zeros(1)]).clamp(min=0)
        own = cosine.clamp(min=torch.finfo(cosine.dtype).tiny)
        return matching(cosine - 2 * (~merges), count), own / (own + following)

    return _in_rounds(frames, pairs)


def matching(weights: Tensor, count: int) -> Tensor:
    """(n - 1,) True for the `count` disjoint pairs of neighbours with the highest sum of `weights`.

    Exact, by a dynamic programme over how many pairs the first frames hold; of equal sums the earlier pairs.

    Args:
        weights: (n - 1,) of each of n >= 2 frames with the next.
        count: at most n // 2.
    """
    none = weights.new_full((1,), -torch.inf)
    best = [torch.cat([weights.new_zeros(1), none.expand(count)])] * 2  # of the first 0 and 1 frames
    takes = []
    for weight in weights:
        paired = torch.cat([none, best[-2][:-1]]) + weight
        takes.append(paired > best[-1])
        best.append(torch.maximum(paired, best[-1]))
    chosen, missing = [], torch.full((1,), count, device=weights.device)
    free = torch.ones(1, dtype=torch.bool, device=weights.device)
    for take in reversed(takes):
        pair = take.gather(0, missing) & free
        chosen.append(pair)
        missing, free = missing - pair.long(), ~pair
    return torch.cat(chosen[::-1])


def _in_rounds(
    frames: FrameTokens, pairs: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
) -> Assignment:
    """Merge neighbours until `left` frames remain.

    Args:
        pairs: from mean cosines (n, n), how many frames each stands for (n,) and how many pairs to merge:
            which neighbours do (n - 1,), and what the earlier weighs (n - 1,); the later weighs the rest.
    """
    features = frames.features.to(accumulation_dtype(frames.features.dtype))
    index = torch.arange(len(features), device=features.device)
    group, weight = index, torch.ones_like(features[:, 0, 0])
    sizes = weight
    while len(features) > frames.left:
        count = min(len(features) - frames.left, len(features) // 2)
        units = normalize(features, dim=-1).flatten(1)
        merges, share = pairs(units @ units.mT / features.shape[1], sizes, count)
        no = torch.zeros_like(merges[:1])
        joins, leads = torch.cat([no, merges]), torch.cat([merges, no])
        one = torch.ones_like(share[:1])
        part = torch.cat([share, one]).where(leads, 1) * torch.cat([one, 1 - share]).where(joins, 1)
        number = (~joins).cumsum(0) - 1
        merged = features.new_zeros(len(features) - count, *features.shape[1:])
        weight, group = weight * part.gather(0, group), number.gather(0, group)
        sizes = sizes.new_zeros(len(merged)).index_add(0, number, sizes)
        features = merged.index_add(0, number, features * part[:, None, None])
    first = torch.full((len(features),), len(index), device=index.device)
    first = first.scatter_reduce(0, group, index, "amin")
    return Assignment(first.gather(0, group)[None], weight[None])


def _published(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """Which neighbours EarlyTom would merge (n - 1,), and which both lie between the ends of a run."""
    count = len(likeness)
    index = torch.arange(count, device=likeness.device)
    start, smooth = index[:1], likeness.new_ones(1)
    starts = [start]
    for frame in range(1, count):
        smooth = EMA * likeness[frame].gather(0, start) + (1 - EMA) * smooth
        ends = (smooth < TAU) | (frame - start + 1 >= WINDOW)
        start, smooth = start.where(~ends, frame), smooth.where(~ends, 1)
        starts.append(start)
    start = torch.cat(starts)
    end = torch.zeros_like(start).scatter_reduce(0, start, index, "amax").gather(0, start)
    threshold = likeness.flatten().gather(0, start * count + end)[:-1]

    between = ((index > start) & (index < end))[:-1] & ((index > start) & (index < end))[1:]
    between = between & (start[:-1] == start[1:])
    cosine = likeness.diagonal(1)
    follows = torch.cat([between[1:], torch.zeros_like(between[:1])])
    next_one = torch.cat([cosine[1:], cosine[:1]]).where(follows, -torch.inf)
    wanted = between & (cosine > threshold) & (cosine > next_one)
    merges = [torch.zeros_like(wanted[:1])]
    for pair in wanted.split(1):
        merges.append(pair & ~merges[-1])
    return torch.cat(merges[1:]), between
