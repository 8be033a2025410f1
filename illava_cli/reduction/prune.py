"""Dropping instead of merging: the least attended tokens, or any (the baselines of iLLaVA's table 7).

FastV (arXiv 2403.06764, section 4.1) is `attention_prune` in the decoder, by the attention of the last token.
"""

from __future__ import annotations

import torch

from illava_cli.reduction.candidates import Candidates, dropped, lowest
from illava_cli.reduction.merge import Assignment

MIX = (0x45D9F3B, 0x119DE1F3)  # odd multipliers that spread a number's bits


def attention_prune(tokens: Candidates) -> Assignment:
    """Drop the least attended tokens of each row."""
    return dropped(tokens, lowest(tokens.scores, tokens.counts, tokens.r))


def random(tokens: Candidates) -> Assignment:
    """Drop tokens without regard to what they are: by one fixed shuffle of places.

    Numbers drawn, or hashed from the scores, would make the answer depend on a batch's shape, whose last bits
    differ.
    """
    mixed = tokens.index.contiguous()
    for factor in MIX:
        mixed = ((mixed ^ (mixed >> 16)) * factor) & 0xFFFFFFFF
    order = (mixed ^ (mixed >> 16)).double().masked_fill(~tokens.valid, torch.inf)
    return dropped(tokens, lowest(order, tokens.counts, tokens.r))
