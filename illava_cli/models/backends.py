"""The attention back ends by their names in `transformers`: what each takes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Backend:
    """What an attention back end takes beside queries, keys and values.

    Args:
        mask: `added` to the logits, (B, 1, Q, K), or which keys are there, `2-D` (B, K).
        causal: without a mask a decoder's queries see the keys up to their own, where there are as many.
        packed: sequences one after another, with their borders on the device.
        flash: FlashAttention that gives its log-sum-exp may take its place in a layer that is scored.
    """

    mask: Literal["added", "2-D"]
    causal: bool = False
    packed: bool = False
    flash: bool = False


BACKENDS = {
    "eager": Backend("added"),
    "sdpa": Backend("added", causal=True, flash=True),
    "flash_attention_2": Backend("2-D", causal=True, packed=True, flash=True),
}
