"""Efficient Video Sampling (arXiv 2510.14624): what does not change at its place is dropped."""

from __future__ import annotations

import torch

from illava_cli.reduction.clips.tokens import ClipTokens, highest, keeping
from illava_cli.reduction.merge import Assignment


def evs(tokens: ClipTokens) -> Assignment:
    """The tokens most unlike what stood at their place before (1 - cosine) are kept, the others dropped.

    A place's first token, so as a rule all of the first frame, comes before all others. The paper never keeps
    less than that frame; where fewer are to remain, they are its most attended here. Where the frame before
    has no token at the place, the latest that has one counts.
    """
    directions, valid = tokens.directions, tokens.valid
    unlike = [torch.full_like(tokens.attention[0], torch.inf)]
    last, seen = directions[0], valid[0]
    for frame in range(1, len(valid)):
        change = 1 - (directions[frame] * last).sum(-1)
        unlike.append(change.where(seen, torch.inf))
        last = directions[frame].where(valid[frame].unsqueeze(-1), last)
        seen = seen | valid[frame]
    return keeping(tokens, highest(tokens.left, valid.int(), torch.stack(unlike), tokens.attention))
