"""Shares with intervals, differences on the same questions, and how far two models' first tokens lie apart.

All intervals are at 95 %. Pure functions; shares and differences are fractions, not percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Z = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, with the bounds of its interval."""

    n: int
    hits: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much a share changed: of `n` questions `lost` became wrong and `gained` right."""

    n: int
    lost: int
    gained: int
    value: float
    low: float
    high: float


def share(hits: int, n: int) -> Share:
    """The share and its Wilson score interval.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927); unlike
    the plain normal interval it holds near 0 and 1.

    Raises:
        ValueError: n is 0, or hits lie outside of 0 to n.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is no share")
    p = hits / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    # the bounds are exactly 0 and 1 at the ends, which rounding would miss
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return Share(n, hits, p, low, high)


def paired_difference(reference: Sequence[bool], ours: Sequence[bool]) -> Difference:
    """The share of right answers in `ours` less that in `reference`, which are about the same questions.

    The interval is the adjusted Wald interval for matched pairs: half an observation is added to each of
    the four outcomes (Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24, 2005), so that it does not shrink to nothing where no answer
    changed. Pairing counts: questions that both answer alike add nothing to its width.

    Raises:
        ValueError: no questions, or unequal numbers of them.
    """
    pairs = list(zip(reference, ours, strict=True))
    if not pairs:
        raise ValueError("no pairs to compare")
    n = len(pairs)
    lost = sum(1 for before, after in pairs if before and not after)
    gained = sum(1 for before, after in pairs if after and not before)
    centre = (gained - lost) / (n + 2)
    changed = (lost + gained + 1) / (n + 2)
    half = Z * math.sqrt((changed - centre**2) / (n + 2))
    return Difference(n, lost, gained, (gained - lost) / n, max(-1.0, centre - half), min(1.0, centre + half))


def divergence(reference: Tensor, ours: Tensor) -> float:
    """KL(reference || ours) of the next token, in nats, from logits (vocabulary,); float64 throughout.

    NaN where logits are.

    Kullback and Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22 (1951).
    """
    p, q = (torch.log_softmax(logits.to(torch.float64), dim=-1) for logits in (reference, ours))
    terms = torch.where(p == -math.inf, 0.0, p.exp() * (p - q))
    return max(terms.sum().item(), 0.0)  # in this order it keeps NaN
