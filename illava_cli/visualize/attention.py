"""Attention by layer: on the cells (paper, figure 2b), and by part of the prompt (figure 2c)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from illava_cli.trace import NEWLINE, VISUAL
from illava_cli.visualize.stages import Tokens, ways_out
from illava_cli.visualize.way import Way

PARTS = ("system", "visual", "instruction", "other")


@dataclass(frozen=True)
class Heat:
    """What each cell's token receives in one layer: (P,), NaN where the cell is dropped."""

    where: str  # tower, llm
    layer: int
    values: np.ndarray


def traced_layers(way: Way) -> dict[str, list[int]]:
    """The layers of tower and decoder whose attention is in the trace."""
    tower = set().union(*way.trace["vision_attention"])
    return {"tower": sorted(tower), "llm": sorted(way.trace["llm_attention"])}


def heat(way: Way, padding: np.ndarray, every: int = 1) -> Iterator[Heat]:
    """Traced layers of tower and decoder; of many only those whose number `every` divides.

    In the tower a token receives it from the others of its segment (eq. 1), in the decoder from the last
    token of the prompt, which begins the answer.
    """
    if not way.tower_merges:
        return
    gone = ways_out(way, padding)
    layers = {where: [n for n in own if n % every == 0] for where, own in traced_layers(way).items()}
    for layer in layers["tower"]:
        tokens = Tokens.of(way.into_tower_layer(layer), gone, way.tower_attention(layer))
        yield Heat("tower", layer, tokens.on_cells())
    for layer in layers["llm"]:
        tokens = Tokens.of(way.into_llm_layer(layer), gone, way.llm_attention(layer))
        yield Heat("llm", layer, tokens.on_cells())


def shares(way: Way) -> dict[str, list] | None:
    """How the last prompt token's attention is divided in each decoder layer; None where it was not traced.

    `system` is what stands before the user's words and media, `instruction` all other text, `other`
    newlines and earlier turns. Shares sum to 1.
    """
    received = way.trace["llm_attention"]
    if not received:
        return None
    kinds = way.trace["kinds"][0].cpu()
    part = torch.full_like(kinds, PARTS.index("instruction"))
    part[: way.trace["system_tokens"]] = PARTS.index("system")
    part[kinds == VISUAL] = PARTS.index("visual")
    part[kinds == NEWLINE] = PARTS.index("other")
    merges = list(way.trace["llm"])
    found: dict[str, list] = {"layers": sorted(received), **{name: [] for name in PARTS}}
    for layer in found["layers"]:
        while merges and merges[0][0] <= layer:  # before it, or before one of linear attention
            part = part[merges.pop(0)[1].anchor[0].cpu()]
        sums = np.bincount(part.numpy(), way.llm_attention(layer), minlength=len(PARTS))
        sums[PARTS.index("other")] += max(0.0, 1 - sums.sum())  # of earlier turns
        for name, share in zip(PARTS, sums.tolist(), strict=True):
            found[name].append(share)
    return found
