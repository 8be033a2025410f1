"""Measured requests and their summary: medians with spread, and speed-ups taken pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

STAGES = ("media", "vision", "prefill", "ttft", "decoding", "per_token", "request")
COMPARED = ("vision", "prefill", "ttft", "request")  # stages with a bound


@dataclass(frozen=True)
class Sample:
    """One measured request (or batch of them), in seconds.

    Args:
        media: decoding and preprocessing.
        vision: pixels to the device, tower, projector, packing.
        prefill: the decoder's pass over the prompt, until the first token is chosen.
        decoding: the tokens after the first.
        request: all of it, by one clock around it.
        new_tokens: tokens of each answer.
    """

    media: float
    vision: float
    prefill: float
    decoding: float
    request: float
    new_tokens: int

    @property
    def ttft(self) -> float:
        return self.media + self.vision + self.prefill

    @property
    def per_token(self) -> float | None:
        """Seconds per output token after the first."""
        return self.decoding / (self.new_tokens - 1) if self.new_tokens > 1 else None


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Median, least and greatest; None where there are no values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": median(known), "min": min(known), "max": max(known)}


def summary(samples: Sequence[Sample], batch: int) -> dict[str, Any]:
    """Times and throughput of one variant."""
    tokens = samples[0].new_tokens
    return {
        "rounds": len(samples),
        "seconds": {stage: spread([getattr(s, stage) for s in samples]) for stage in STAGES},
        "requests_per_s": spread([batch / s.request for s in samples]),
        "tokens_per_s": spread([batch * tokens / s.request for s in samples]),
    }


def speedups(reference: Sequence[Sample], ours: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """How many times faster than `reference`, from the two samples of each round."""
    pairs = list(zip(reference, ours, strict=True))
    return {stage: spread([getattr(a, stage) / getattr(b, stage) for a, b in pairs]) for stage in COMPARED}
