"""HoliTom (arXiv 2505.21334), what it does before the decoder: static places merge over windows of frames.

As its published code has it, with its defaults.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction.clips.density import blocks, distances, fused, peaks
from illava_cli.reduction.clips.shares import shares
from illava_cli.reduction.clips.tokens import ClipTokens, averaged, highest, highest_of_frames
from illava_cli.reduction.merge import Assignment

TAU = 0.8  # the cosine above which a place is static
NEIGHBOURS = 7


def holitom(tokens: ClipTokens) -> Assignment:
    """Static places of a window are averaged into its first frame; the others are chosen by attention.

    The windows save as many tokens as any can. What then exists is thinned in proportion: static places to
    density peaks, which the others of their frame join, the rest of a frame to its most attended. The code
    rounds for each frame and window; here their shares sum to the budget. Where the windows save more than
    has to leave, the merges that are least alike from frame to frame are undone.
    """
    places = tokens.valid.shape[1]
    cosine = [torch.zeros_like(tokens.attention[0])]
    cosine += [(a * b).sum(-1) for a, b in zip(tokens.directions[1:], tokens.directions, strict=False)]
    cosine = torch.stack(cosine)  # with the frame before
    begin, static = _windows(cosine > TAU)
    frame = torch.arange(len(begin), device=begin.device)
    merges = static & (frame > begin).unsqueeze(-1)
    merges &= highest(tokens.present - tokens.left, merges.int(), cosine)
    first = begin.unsqueeze(-1) * places + tokens.index[0]
    over_time = averaged(tokens, first.where(merges, tokens.index))
    target, weight = over_time.target[0], over_time.weight[0]

    heads = static & (frame == begin).unsqueeze(-1)
    others = tokens.valid & ~merges & ~heads
    there = torch.cat([heads.sum(1), others.sum(1)])
    of_heads, of_others = shares(there.to(tokens.dtype), there, tokens.left).chunk(2)
    attended = highest_of_frames(tokens.attention.masked_fill(~others, -torch.inf), of_others)
    clustered = _clustered(_means(tokens, target, weight), heads, of_heads)
    into = (tokens.index[:, :1] + clustered).where(clustered >= 0, -1)
    into = into.where(heads, tokens.index.where(attended, -1)).flatten()
    weight = weight * fused(into, tokens.dtype).gather(0, target)
    target = into.gather(0, target).where(tokens.valid.flatten(), -1)
    return Assignment(target[None], weight[None])


def _windows(static: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame's window, by its first frame (F,), and which places are static all over it (F, P).

    Exact: a window saves its static places times its frames but one, and the sum is the highest that any
    windows side by side have. Of equal ones the shorter.

    Args:
        static: (F, P) whether a place is as in the frame before; False in the first.
    """
    length = [static[0].long()]  # how many frames back it has been static
    for row in static[1:]:
        length.append((length[-1] + 1) * row)
    saved, starts = [length[0][:1] * 0], []
    for frame, row in enumerate(length):
        back = torch.arange(frame + 1, device=row.device)
        saves = (row.unsqueeze(-1) >= back).sum(0) * back
        best = (torch.cat(saved[::-1]) + saves).max(0, keepdim=True)
        saved.append(best.values)
        starts.append(frame - best.indices)
    begin = [starts[-1]]
    for frame in range(len(length) - 1, 0, -1):
        begin.append(starts[frame - 1].where(begin[-1] == frame, begin[-1]))
    begin = torch.cat(begin[::-1])
    end = torch.arange(len(begin), device=begin.device)
    end = torch.zeros_like(begin).scatter_reduce(0, begin, end, "amax").gather(0, begin)
    lasting = torch.stack(length).index_select(0, end) >= (end - begin).unsqueeze(-1)
    return begin, lasting & (end > begin).unsqueeze(-1)


def _means(tokens: ClipTokens, target: Tensor, weight: Tensor) -> Tensor:
    """(F, P, C) features after who joins `target` (N,) with `weight` (N,) has done so."""
    features = tokens.features.to(tokens.dtype).masked_fill(~tokens.valid.unsqueeze(-1), 0)
    sums = torch.zeros_like(features).flatten(0, 1)
    target, weight = target.view_as(tokens.valid), weight.view_as(tokens.valid)
    for frame, into, part in zip(features, target, weight, strict=True):
        sums.index_add_(0, into, frame * part.unsqueeze(-1))  # frame by frame, so always in the same order
    return sums.view_as(features)


def _clustered(features: Tensor, heads: Tensor, counts: Tensor) -> Tensor:
    """(F, P) the place of the centre that each of `heads` (F, P) joins in its frame, -1 where there is none.

    Args:
        counts: (F,) how many centres each frame has.
    """
    places, found = torch.arange(heads.shape[1], device=heads.device), []
    for part in blocks(*heads.shape):
        apart = distances(features[part], heads[part])
        peak = peaks(apart, heads[part], counts[part].clamp(max=NEIGHBOURS), NEIGHBOURS)
        centres = highest_of_frames(peak, counts[part])
        closest = apart.masked_fill(~centres.unsqueeze(1), torch.inf).min(2)
        nearest = closest.indices.where(closest.values < torch.inf, -1)
        found.append(places.where(centres, nearest))
    return torch.cat(found)
