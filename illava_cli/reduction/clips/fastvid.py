"""FastVID (arXiv 2503.11187): segments of alike frames, of which each keeps the attended and density peaks.

As its published code has it for LLaVA-OneVision, with its defaults. What describes a whole frame there comes
from the tower's pooling head; here it is the mean of the frame's tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from illava_cli.reduction.clips.density import blocks, distances, fused, peaks
from illava_cli.reduction.clips.shares import shares
from illava_cli.reduction.clips.tokens import ClipTokens, highest_of_frames
from illava_cli.reduction.merge import Assignment

SEGMENTS, TAU = 8, 0.9  # at least so many; and a cut where frames are less alike than that
CONTEXT = 0.4  # the part of the budget that merges
STEP = 4  # one frame of so many holds the centres
NEIGHBOURS = 4


def fastvid(tokens: ClipTokens) -> Assignment:
    """Each frame keeps its most attended; what else there is in a segment joins density peaks in some frames.

    These are the last of a segment and every fourth before it. As published a token feeds a centre in each of
    them, and a centre also itself; here, as everywhere in a `Merge`, a token joins one, the most similar of
    all. The code rounds the budgets for each frame; here they sum to the budget, and what those few frames
    cannot hold goes to the attended.
    """
    segment, holds = _segments(tokens)
    counts, nothing = tokens.counts, torch.zeros_like(tokens.counts)
    of_segment, holders = (nothing.index_add(0, segment, x)[segment] for x in (counts, holds.long()))
    context = int(tokens.left * CONTEXT)
    salient = shares(counts.to(tokens.dtype), counts, tokens.left - context)
    room = (counts - salient).where(holds, 0)
    central = shares(of_segment / holders.to(tokens.dtype), room, room.sum().clamp(max=context))
    room = counts - salient - central
    salient = salient + shares(room.to(tokens.dtype), room, tokens.left - salient.sum() - central.sum())

    attended = highest_of_frames(tokens.attention, salient)
    others = tokens.valid & ~attended
    centres = highest_of_frames(_peaks(tokens, others), central)
    target = tokens.index.where(attended | centres, _nearest(tokens, centres, context, segment))
    target = target.where(tokens.valid, -1).flatten()
    return Assignment(target[None], fused(target, tokens.dtype)[None])


def _segments(tokens: ClipTokens) -> tuple[Tensor, Tensor]:
    """Each frame's segment (F,), and whether it is one of those that hold centres."""
    sums = tokens.features.to(tokens.dtype).masked_fill(~tokens.valid.unsqueeze(-1), 0).sum(1)
    frames = normalize(sums, dim=-1)  # a mean has the same direction
    alike = (frames[1:] * frames[:-1]).sum(-1)
    least = alike.argsort(stable=True)[: SEGMENTS - 1]
    cuts = (alike < TAU).scatter(0, least, True)
    segment = torch.cat([torch.zeros_like(tokens.counts[:1]), cuts.cumsum(0)])
    frame = torch.arange(len(segment), device=segment.device)
    last = torch.zeros_like(segment).scatter_reduce(0, segment, frame, "amax").gather(0, segment)
    return segment, (last - frame) % STEP == 0


def _peaks(tokens: ClipTokens, others: Tensor) -> Tensor:
    """(F, P) how much of a centre each of `others` (F, P) is among those of its frame."""
    features, neighbours = tokens.features.to(tokens.dtype), others.sum(1).clamp(max=NEIGHBOURS)
    found = []
    for part in blocks(*others.shape):
        apart = distances(features[part], others[part])
        found.append(peaks(apart, others[part], neighbours[part], NEIGHBOURS))
    return torch.cat(found)


def _nearest(tokens: ClipTokens, centres: Tensor, most: int, segment: Tensor) -> Tensor:
    """(F, P) the most similar of `centres` (F, P) in the same segment; -1 where it has none.

    Args:
        most: how many centres there are, or more than that.
    """
    if most == 0:
        return torch.full_like(tokens.index, -1)
    chosen = (~centres).flatten().int().argsort(stable=True)[:most]
    directions = tokens.directions.flatten(0, 1).index_select(0, chosen)
    of_segment = segment.gather(0, chosen // centres.shape[1])
    exists, found = centres.flatten().gather(0, chosen), []
    for frame, own in zip(tokens.directions, segment.split(1), strict=True):
        cosine = (frame @ directions.mT).masked_fill(~exists | (of_segment != own), -torch.inf).max(1)
        found.append(chosen.gather(0, cosine.indices).where(cosine.values > -torch.inf, -1))
    return torch.stack(found)
