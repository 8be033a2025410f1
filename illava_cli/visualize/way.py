"""The way of every cell of an answer's media through tower and decoder, from its trace, merge by merge."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property

import numpy as np
import torch

from illava_cli.reduction import Merge
from illava_cli.trace import TOWER, Trace

NOWHERE = -1  # the anchor of a token of the prompt that is no cell's: a newline, a word


class Way:
    """Cells are numbered as in `places`: P of them."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.tower_merges = [{k: merge.to("cpu") for k, merge in own.items()} for own in trace["vision"]]
        self.steps = sorted(set().union(*self.tower_merges))
        self.llm_layers = [layer for layer, _ in trace["llm"]]

    @cached_property
    def in_tower(self) -> list[Merge]:
        """Cells to the tower's tokens, (1, P) to (1, M): before it, and after each of `steps`."""
        media = []
        for views, merges in zip(self.trace["views"], self.tower_merges, strict=True):
            ways = [Merge.identity(1, len(views) * views[0].rows * views[0].columns)]
            for step in self.steps:
                ways.append(ways[-1].then(merges[step]) if step in merges else ways[-1])
            media.append(ways)
        return [Merge.beside(way) for way in zip(*media, strict=True)]

    @cached_property
    def in_prompt(self) -> list[Merge]:
        """Cells to the prompt's tokens, (1, P) to (1, T): entering the decoder, and after each merge."""
        laid_out = self.in_tower[-1].then(Merge.beside([m.to("cpu") for m in self.trace["layout"]]))
        place = torch.cat([where.cpu() for where in self.trace["where"]])
        # a newline's slot has no token in it: what it points to is none of its cells
        entered = torch.zeros(len(place), dtype=torch.bool)
        entered[laid_out.slot[0][laid_out.slot[0] >= 0]] = True
        anchor = torch.full((1, self.trace["kinds"].shape[1]), NOWHERE)
        anchor[0, place] = laid_out.anchor[0].where(entered, NOWHERE)
        slot = place[laid_out.slot.clamp(min=0)].where(laid_out.slot >= 0, -1)
        steps = [Merge(slot, laid_out.weight, anchor)]
        for _, merge in self.trace["llm"]:
            steps.append(steps[-1].then(merge.to("cpu")))
        return steps

    def into_tower_layer(self, layer: int) -> Merge:
        """Cells to the tokens that a tower layer attends with: it merges after its attention."""
        return self.in_tower[bisect_left(self.steps, (layer, TOWER))]

    def into_llm_layer(self, layer: int) -> Merge:
        """Cells to the tokens that a decoder layer runs on: it merges before."""
        return self.in_prompt[bisect_right(self.llm_layers, layer)]

    def tower_attention(self, layer: int) -> np.ndarray | None:
        """(M,) what each token receives in a tower layer, for `into_tower_layer`; None if untraced."""
        watched = self.trace["vision_attention"]
        if not all(layer in own for own in watched):
            return None
        return torch.cat([own[layer] for own in watched]).float().cpu().numpy()

    def llm_attention(self, layer: int) -> np.ndarray | None:
        """(T,) what each token receives of the last one's attention, for `into_llm_layer`."""
        received = self.trace["llm_attention"].get(layer)
        return None if received is None else received[0].float().cpu().numpy()

    def llm_ranking(self, layer: int) -> np.ndarray:
        """(T,) what the merge before a decoder layer ranks the tokens by."""
        return self.trace["llm_scores"][layer][0].float().cpu().numpy()
