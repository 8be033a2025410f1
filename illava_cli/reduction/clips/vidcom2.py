"""VidCom2 (arXiv 2505.14454): frames unlike the clip get more of the budget, unlike tokens get it.

As its published code has it, which looks only at the half of the channels that vary least.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.clips.shares import shares
from illava_cli.reduction.clips.tokens import ClipTokens, highest_of_frames, keeping, squared
from illava_cli.reduction.merge import Assignment

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)  # of the Gaussians that are added
TEMPERATURE = 0.01


def vidcom2(tokens: ClipTokens) -> Assignment:
    """Within each frame's share the tokens least like the clip's centre and the frame's are kept.

    A frame's share of the budget is 1 + p - mean p, p being the softmax over frames of how unlike the clip it
    is. The code rounds each share and leaves no frame empty; here they sum to the budget, what a frame cannot
    hold goes to the others, and a budget below a token a frame leaves some out.
    """
    units = _quiet(tokens)
    sums, counts = units.sum(1), tokens.counts
    to_clip = _gaussians(units, (sums.sum(0) / tokens.present).expand_as(sums))
    to_frame = _gaussians(units, sums / counts.clamp(min=1).unsqueeze(-1))

    unlike = -(to_clip * tokens.valid).sum(1) / counts.clamp(min=1)
    share = torch.softmax((unlike / TEMPERATURE).masked_fill(counts == 0, -torch.inf), 0)
    weights = counts * (1 + share - 1 / (counts > 0).sum())
    strange = (-to_clip - to_frame).masked_fill(~tokens.valid, -torch.inf)
    return keeping(tokens, highest_of_frames(strange, shares(weights, counts, tokens.left)))


def _quiet(tokens: ClipTokens) -> Tensor:
    """(F, P, C / 2) the channels of least variance over the clip, of length 1; 0 where there is no token."""
    absent = ~tokens.valid.unsqueeze(-1)
    features = tokens.features.to(tokens.dtype).masked_fill(absent, 0)
    mean = features.sum((0, 1)) / tokens.present
    variance = (features - mean).masked_fill_(absent, 0).square_().sum((0, 1))
    channels = variance.argsort(stable=True)[: max(1, len(variance) // 2)]
    return normalize(features.index_select(-1, channels.sort().values), dim=-1)


def _gaussians(units: Tensor, centres: Tensor) -> Tensor:
    """(F, P) how like its frame's of `centres` (F, C) each token is."""
    far = squared(units, centres)
    return sum(torch.exp(-far / (2 * width)) for width in WIDTHS)
