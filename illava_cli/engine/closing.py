"""Positions that close up, so that a context holds what merging has left of a prompt and not what was.

Survivors keep the positions of their places in the unmerged prompt. Where those run on beyond the context,
the empty spans between them shrink, all in proportion. Measured on `tiny` (docs/video.md): to cut the longest
first makes no difference that shows; at eight frames both lose less than dropping frames until they fit.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import torch
from torch import Tensor


class Room(NamedTuple):
    """How far positions may run, the one after the last included.

    Args:
        most: beyond which they close up.
        wanted: where they then end, if they can.
    """

    most: int
    wanted: int

    @staticmethod
    def of(context: int, asked: int, taken: int) -> Room:
        """Room for a prompt, and for its answer where there is any: else only what would not fit closes up.

        Args:
            asked: tokens of the answer.
            taken: tokens of the cache and the prompt.
        """
        wanted = context - asked
        return Room(wanted, wanted) if taken <= wanted else Room(context - 1, taken)


def closed_up(positions: Tensor, media: Tensor, end: int, wanted: int) -> tuple[Tensor, int]:
    """A row's positions with as much of its empty spans as fits, all shrunk in proportion, and their end.

    On the first axis, a medium's time: two moments stay in their order, one apart at least, and what stands
    at the same moment still does. Rows and columns of a medium keep their offsets, and what follows it stays
    beyond them. What overlaps does so no less.

    Args:
        positions: (axes, T) of the tokens that are left.
        media: (T,) the medium of each; -1: text.
        end: the position after the last.
        wanted: how far they may run, `end` included; if they cannot, as far as without empty spans.
    """
    count = positions.shape[1]
    first = (media < 0) | (media.diff(prepend=media[:1]) != 0)
    first[0] = True
    starts = first.nonzero().squeeze(1)  # (R,) of runs: a medium, or a token of text
    stops = torch.cat([starts[1:], starts.new_tensor([count])])
    run = first.cumsum(0) - 1  # (T,)
    time = torch.cat([positions[0], positions.new_tensor([end])])
    begins = time[starts]
    spread = torch.cat([positions[1:], begins[run][None]])  # what does not shrink, and where it begins
    lowest, highest = (
        begins.scatter_reduce(0, run, getattr(spread, name)(0), name) for name in ("amin", "amax")
    )
    extents = torch.minimum(highest + 1, time[stops]) - begins  # what follows is as far at least

    steps = time.diff(prepend=time.new_tensor([-1]))
    needed = steps.clamp(max=1)
    needed[starts] = torch.minimum(steps[starts], 1 + begins - lowest)
    empty = (steps - needed).cumsum(0)
    whole = int(empty[-1])

    def shrunk(left: int) -> Tensor:
        """(T + 1,) moments where so many of the empty positions are left."""
        moments = needed.cumsum(0) - 1 + empty * left // max(1, whole)
        lacking = (extents - (moments[stops] - moments[starts])).clamp(min=0)
        return moments + torch.zeros_like(moments).index_add(0, stops, lacking).cumsum(0)

    wanted = max(wanted, int(shrunk(0).max()))
    fitting = bisect_right(range(whole + 1), wanted, key=lambda left: int(shrunk(left).max())) - 1
    moments = shrunk(fitting)
    moved = moments - time
    return torch.cat([moments[None, :-1], positions[1:] + moved[starts][run]]), int(moments[-1])
