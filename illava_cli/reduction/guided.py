"""Choosing by the prompt which frames and which region of a medium the tower sees at all.

Two of these are rows of iLLaVA's table 4, CLIP and CLIPSeg, of which the paper says that they find the area
that the text speaks of, and crop it; here that is the window of the asked share with most relevance.
Free Video-LLM (arXiv 2410.10441) samples frames by their similarity to the prompt, and crops each around
the middle of its most similar patches. Published it crops the tower's features, and shows the decoder some
evenly spaced frames and all frames pooled to 4x4 beside them; here, as iLLaVA describes it, the pixels are
cropped, and nothing stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from illava_cli.reduction.candidates import lowest

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the ends not included


@dataclass(frozen=True)
class Guided:
    """How a method chooses by relevance to the prompt.

    Args:
        checkpoint: `model_type` of the checkpoint that says how relevant each cell of a picture is.
        centre: from relevance (F, h, w) and the share kept of an area to the region's centre (F, 2): row and
            column from 0 to 1.
        samples: it also chooses frames, each of which then has its own region; else a video has one.
    """

    checkpoint: str
    centre: Callable[[Tensor, float], Tensor]
    samples: bool = False


def densest(relevance: Tensor, keep: float) -> Tensor:
    """Centre of the window of the share `keep` with most relevance; of equal ones the first.

    A window has the picture's proportions and whole cells.
    """
    height, width = relevance.shape[1:]
    rows, columns = (max(1, round(n * math.sqrt(keep))) for n in (height, width))
    sums = avg_pool2d(relevance[:, None], (rows, 1), stride=1, divisor_override=1)
    sums = avg_pool2d(sums, (1, columns), stride=1, divisor_override=1)[:, 0]  # (F, tops, lefts)
    first = sums.flatten(1).argmax(dim=1)
    corner = torch.stack([first // sums.shape[2], first % sums.shape[2]], dim=1).to(relevance.dtype)
    return (corner + corner.new_tensor([rows / 2, columns / 2])) / corner.new_tensor([height, width])


def middle_of_top(relevance: Tensor, keep: float) -> Tensor:
    """Mean place of the share `keep` of the cells that are most relevant; ties: lower index."""
    frames, rows, columns = relevance.shape
    count = max(1, int(rows * columns * keep))
    top = lowest(-relevance.flatten(1), torch.full((frames,), count, device=relevance.device), count)
    top = top.view_as(relevance).to(relevance.dtype)
    row = (torch.arange(rows, device=top.device, dtype=top.dtype) + 0.5) / rows
    column = (torch.arange(columns, device=top.device, dtype=top.dtype) + 0.5) / columns
    return torch.stack([top.sum(2) @ row, top.sum(1) @ column], dim=1) / count


def most_similar_frames(similarity: Tensor, keep: float) -> list[int]:
    """Indices of the share `keep` of frames (F,) that are most similar to the prompt, in their order."""
    count = max(1, round(len(similarity) * keep))
    chosen = lowest(-similarity[None], torch.tensor([count], device=similarity.device), count)[0]
    return chosen.nonzero().flatten().tolist()


def region(centre: tuple[float, float], size: tuple[int, int], keep: float) -> Box:
    """The share `keep` of a picture of `size` (height, width), of its proportions, around `centre`.

    At an edge it is moved inside: it never becomes smaller.
    """
    spans = []
    for middle, extent in zip(centre, size, strict=True):
        length = max(1, round(extent * math.sqrt(keep)))
        start = min(max(0, round(middle * extent - length / 2)), extent - length)
        spans.append((start, start + length))
    (top, bottom), (left, right) = spans
    return left, top, right, bottom
