"""A tap on attention: the scores of a merge layer, through transformers' own extension point.

Each attention module gets a copy of its config that names our function, which runs the back end the
model was loaded with (SDPA, FlashAttention, eager) and, when a merge layer asks, also hands that
layer's queries and keys to the scorer. Without a request the outputs are the back end's own.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PLAIN = "illava"
# Qwen2-VL's vision attention calls a back end whose name contains "flash" once, with all segments
# packed and no copy of their lengths to the host; any other it calls segment by segment.
PACKED = "illava_flash_packed"

Scorer = Callable[[Tensor, Tensor, float], Tensor]


class Tap:
    """What our attention function needs to know about one attention module."""

    def __init__(self, attention: nn.Module):
        self.config = attention.config
        eager = sys.modules[type(attention).__module__].eager_attention_forward
        self.backend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager)
        self.scorer: Scorer | None = None
        self.scores: Tensor | None = None

    @contextmanager
    def recording(self, scorer: Scorer | None) -> Iterator[Tap]:
        """Let the next call of this attention also compute `scorer(query, key, scaling)`."""
        self.scorer, self.scores = scorer, None
        try:
            yield self
        finally:
            self.scorer = None


def _unpack(x: Tensor, segment: int) -> Tensor:
    """(1, H, S * n, D) -> (S, H, n, D): segments of equal length are a batch."""
    return x[0].unflatten(1, (-1, segment)).transpose(0, 1)


def tapped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """The registered attention function; arguments as `transformers` passes them."""
    tap: Tap = module.tap
    segment = kwargs.pop("max_length_q", None)
    if segment is not None:
        query, key, value = (_unpack(x, segment) for x in (query, key, value))
        for name in ("max_length_k", "cu_seq_lens_q", "cu_seq_lens_k"):
            kwargs.pop(name, None)
    if tap.scorer is not None:
        tap.scores = tap.scorer(query, key, kwargs["scaling"])
    if "flash" in tap.config._attn_implementation:  # FlashAttention looks its own name up on the module
        tapped, module.config = module.config, tap.config
        try:
            output, _ = tap.backend(module, query, key, value, attention_mask, **kwargs)
        finally:
            module.config = tapped
    else:
        output, _ = tap.backend(module, query, key, value, attention_mask, **kwargs)
    return (output if segment is None else output.flatten(0, 1).unsqueeze(0)), None


for _name in (PLAIN, PACKED):
    AttentionInterface.register(_name, tapped_attention)


def install_tap(attention: nn.Module, implementation: str = PLAIN) -> None:
    """Put a tap on one attention module."""
    attention.tap = Tap(attention)
    attention.config = copy.copy(attention.config)
    attention.config._attn_implementation = implementation
