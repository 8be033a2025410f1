"""Fewer frames inside the tower: runs of frames that are like their first become one.

By pairs half of the frames can leave in one way only. Runs may be of unlike length: a scene that stands still
gives up more frames than one that moves. Each frame is compared with the first of its run, so that slow
movement does not add up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.clips.frames import FrameTokens
from illava_cli.reduction.merge import Assignment, accumulation_dtype


def runs(frames: FrameTokens) -> Assignment:
    """The cut into `left` runs whose frames are most like the first of theirs; slots are plain means.

    Likeness is the mean cosine of tokens at the same place. A run has at most twice the frames that it would
    have if all were as long. Exact, by a dynamic programme over how many runs the first frames make; of equal
    cuts the one with the longer last run.
    """
    count, left = len(frames.features), frames.left
    longest = min(count, 2 * -(-count // left))
    gains = _gains(frames.features, longest)
    first = _cuts(gains, left)
    size = torch.zeros_like(gains[:, 0]).scatter_add(0, first, torch.ones_like(gains[:, 0]))
    return Assignment(first[None], (1 / size.gather(0, first))[None])


def _gains(features: Tensor, longest: int) -> Tensor:
    """(F, longest) likeness of a run's frames to its first, by where it begins and its length less 1."""
    units = normalize(features.to(accumulation_dtype(features.dtype)), dim=-1).flatten(1)
    likeness = units @ units.mT / features.shape[1]
    count = len(units)
    gains = likeness.new_zeros(count, longest)
    for apart in range(1, longest):
        gains[: count - apart, apart] = likeness.diagonal(apart)
    return gains.cumsum(1)


def _cuts(gains: Tensor, left: int) -> Tensor:
    """(F,) the first frame of each one's run."""
    count, longest = gains.shape
    nothing = gains.new_full((1,), -torch.inf)
    best = [torch.cat([gains.new_zeros(1), nothing.expand(left)])]  # by runs, of so many frames
    lengths = []
    for stop in range(1, count + 1):
        reach = range(1, min(longest, stop) + 1)
        options = [torch.cat([nothing, best[stop - n][:-1] + gains[stop - n, n - 1]]) for n in reach]
        options = torch.stack(options[::-1])  # the longest first, which of equals is taken
        values, choice = options.max(0)
        best.append(values)
        lengths.append(len(options) - choice)
    length = torch.stack(lengths)  # (F, left + 1) of the last run of the first frames
    index = torch.arange(count, device=gains.device)
    first, stop = torch.zeros_like(index), torch.full_like(index[:1], count)
    for run in range(left, 0, -1):
        start = stop - length[:, run].gather(0, (stop - 1).clamp(min=0))
        first = first.where(~((index >= start) & (index < stop)), start)
        stop = start
    return first
