"""LLaVA-PruMerge (arXiv 2403.15388): the most attended tokens stay, and the others feed those with like keys.

The attention is that of the class token; a tower without one has the mean attention received instead. As
published a token may feed several survivors; here, as everywhere in a `Merge`, it joins one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.candidates import Candidates, joined, lowest
from illava_cli.reduction.merge import Assignment


def prumerge(tokens: Candidates) -> Assignment:
    """The least attended join the survivor with the most similar key (section 3.3), weighted by attention."""
    weights = tokens.scores.where(tokens.valid, 0).clamp(min=torch.finfo(tokens.scores.dtype).tiny)
    return joined(tokens, lowest(tokens.scores, tokens.counts, tokens.r), weights)


def outliers(scores: Tensor, valid: Tensor) -> Tensor:
    """How many tokens (B,) the published selection keeps: those above Q3 + 1.5 (Q3 - Q1) (section 3.2).

    Args:
        scores: (B, N) attention received.
        valid: (B, N) False for padding.
    """
    present = scores.where(valid, torch.nan)
    first, third = (present.nanquantile(q, dim=1, keepdim=True) for q in (0.25, 0.75))
    return ((scores > third + 1.5 * (third - first)) & valid).sum(1)
