"""Pure tensor functions: scores, `Merge`, and one file per method. Knows no model.

A method is a function `Candidates -> Assignment`; a line of `METHODS` gives it its name. Those that choose
among the pixels by the prompt, before there are tokens, are a `Guided` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from illava_cli.reduction.bipartite import bipartite
from illava_cli.reduction.candidates import Candidates, lowest
from illava_cli.reduction.clips import CLIP_METHODS, FRAME_METHODS, ClipTokens, FrameTokens
from illava_cli.reduction.diversity import assign, diversity, diversity_assign, novelty, novelty_assign
from illava_cli.reduction.greedy import greedy
from illava_cli.reduction.guided import Box, Guided, densest, middle_of_top, most_similar_frames, region
from illava_cli.reduction.illava import illava
from illava_cli.reduction.kmeans import kmeans
from illava_cli.reduction.merge import Assignment, Merge, gather_tokens
from illava_cli.reduction.prumerge import outliers, prumerge
from illava_cli.reduction.prune import attention_prune, random
from illava_cli.reduction.scores import received_attention


@dataclass(frozen=True)
class Method:
    """A method and what it asks of the stage that runs it.

    Args:
        decide: who joins whom; None for a `guided` one.
        stages: where it has a meaning: `guide` before the tower, `frames` and `vision` in it, `input` after
            it, `llm`.
        compares: it looks at the attention keys.
        proportional: attention may count a merged token by its size (ToMe, eq. 1).
        queries: the only `llm.queries` that it is defined for, or None.
        count: how many tokens (B,) it keeps by itself, from scores and what is no padding, both (B, N).
        guided: how it chooses by the prompt, in stage `guide`.
        clip: who of a whole video's tokens joins whom, in stage `input`.
        frames: which of its frames join which, in stage `frames`.
        rounds_kept: of a share kept in the decoder its published code rounds the tokens that stay, not those
            that leave; at exact halves one token stays or leaves by this.
    """

    decide: Callable[[Candidates], Assignment] | None = None
    stages: tuple[str, ...] = ("vision", "input", "llm")
    compares: bool = False
    proportional: bool = False
    queries: str | None = None
    count: Callable[[Tensor, Tensor], Tensor] | None = None
    guided: Guided | None = None
    clip: Callable[[ClipTokens], Assignment] | None = None
    frames: Callable[[FrameTokens], Assignment] | None = None
    rounds_kept: bool = False

    def left(self, tokens: int, keep: float) -> int:
        """How many of `tokens` stay in the decoder if the share `keep` does; of few tokens one does."""
        left = round(tokens * keep) if self.rounds_kept else tokens - round(tokens * (1 - keep))
        return max(min(tokens, 1), left)


METHODS = {
    "illava": Method(illava),
    "attention-prune": Method(attention_prune),
    "random": Method(random),
    "fastv": Method(attention_prune, stages=("llm",), queries="last", rounds_kept=True),
    "prumerge": Method(prumerge, stages=("input",), compares=True, count=outliers),
    "greedy": Method(greedy, compares=True, proportional=True),
    "bipartite": Method(bipartite, compares=True, proportional=True),
    "kmeans": Method(kmeans, compares=True, proportional=True),
    "assign": Method(assign, compares=True),
    "novelty": Method(novelty, compares=True),
    "novelty-assign": Method(novelty_assign, compares=True),
    "diversity": Method(diversity, compares=True),
    "diversity-assign": Method(diversity_assign, compares=True),
    "clip-crop": Method(guided=Guided("clip", densest), stages=("guide",)),
    "clipseg-crop": Method(guided=Guided("clipseg", densest), stages=("guide",)),
    "free-video-llm": Method(guided=Guided("clip", middle_of_top, samples=True), stages=("guide",)),
    **{name: Method(clip=function, stages=("input",)) for name, function in CLIP_METHODS.items()},
    **{name: Method(frames=function, stages=("frames",)) for name, function in FRAME_METHODS.items()},
}


def decide(method: str, tokens: Candidates, padding: Tensor | None = None) -> Assignment:
    """Who joins whom under a method of `METHODS`.

    Args:
        padding: (B, N) True for patches of image padding: they leave first, in their order, and are dropped
            whatever the method.
    """
    if tokens.r == 0:
        return Assignment(tokens.index, torch.ones_like(tokens.scores))
    if padding is None:
        return METHODS[method].decide(tokens)
    marked = padding & tokens.valid
    leaving = lowest((~marked).to(tokens.scores.dtype), torch.minimum(tokens.counts, marked.sum(1)), tokens.r)
    decision = METHODS[method].decide(tokens.without(leaving))
    return Assignment(decision.target.masked_fill(leaving, -1), decision.weight)


__all__ = [
    "METHODS",
    "Assignment",
    "Box",
    "Candidates",
    "ClipTokens",
    "FrameTokens",
    "Guided",
    "Merge",
    "Method",
    "decide",
    "gather_tokens",
    "most_similar_frames",
    "received_attention",
    "region",
]
