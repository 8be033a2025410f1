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

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from illava_cli.models.lse import attention_with_lse

PLAIN = "illava"
# Qwen2-VL's vision attention calls a back end whose name contains "flash" once, with all segments
# packed and no copy of their lengths to the host; any other it calls segment by segment.
PACKED = "illava_flash_packed"

# takes queries, keys, scaling and, where it is known, each query's log-sum-exp
Scorer = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
# what some models ask of attention beside a mask; the kernel with the log-sum-exp knows none of it
UNLIKE_FLASH = ("sliding_window", "softcap", "position_bias", "s_aux")
# back ends whose place FlashAttention with the log-sum-exp may take in a layer that is scored
SAME_AS_FLASH = ("sdpa", "flash_attention_2")


class Tap:
    """What our attention function needs to know about one attention module."""

    def __init__(self, attention: nn.Module):
        self.config = attention.config
        eager = sys.modules[type(attention).__module__].eager_attention_forward
        self.backend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager)
        self.scorer: Scorer | None = None
        self.bias: Tensor | None = None
        self.scores: Tensor | None = None

    @contextmanager
    def recording(self, scorer: Scorer | None, bias: Tensor | None = None) -> Iterator[Tap]:
        """Let the next call of this attention also compute `scorer(query, key, scaling, lse)`.

        Args:
            bias: (B, 1, 1, K) added to its logits; the scorer adds it by itself.
        """
        self.scorer, self.bias, self.scores = scorer, bias, None
        try:
            yield self
        finally:
            self.scorer = self.bias = None


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
        borders = kwargs.pop("cu_seq_lens_q")
        for name in ("max_length_k", "cu_seq_lens_k"):
            kwargs.pop(name, None)
        if segment * (len(borders) - 1) != query.shape[2]:
            # only the stock forward mixes lengths: ours batches segments of one size
            parts = zip(*(x.split(borders.diff().tolist(), dim=2) for x in (query, key, value)), strict=True)
            attended = [tapped_attention(module, *part, attention_mask, **kwargs)[0] for part in parts]
            return torch.cat(attended, dim=1), None
        query, key, value = (_unpack(x, int(segment)) for x in (query, key, value))
    if tap.bias is not None:
        attention_mask = tap.bias
    attended = None
    if tap.scorer is not None:
        attended = _with_lse(module, query, key, value, attention_mask, **kwargs)
        tap.scores = tap.scorer(query, key, kwargs["scaling"], attended and attended[1])
    if attended is not None:
        output, _ = attended
    elif "flash" in tap.config._attn_implementation:  # FlashAttention looks its own name up on the module
        tapped, module.config = module.config, tap.config
        try:
            output, _ = tap.backend(module, query, key, value, attention_mask, **kwargs)
        finally:
            module.config = tapped
    else:
        output, _ = tap.backend(module, query, key, value, attention_mask, **kwargs)
    return (output if segment is None else output.flatten(0, 1).unsqueeze(0)), None


def _with_lse(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **others,
) -> tuple[Tensor, Tensor] | None:
    """Output and log-sum-exp, where the layer's back end can be replaced by one that gives both."""
    if attention_mask is not None or dropout or module.tap.config._attn_implementation not in SAME_AS_FLASH:
        return None
    if any(others.get(name) is not None for name in UNLIKE_FLASH):
        return None
    causal = module.is_causal if is_causal is None else is_causal
    return attention_with_lse(query, key, value, causal=causal and query.shape[2] > 1, scaling=scaling)


for _name in (PLAIN, PACKED):
    AttentionInterface.register(_name, tapped_attention)


def install_tap(attention: nn.Module, implementation: str = PLAIN) -> None:
    """Put a tap on one attention module."""
    attention.tap = Tap(attention)
    attention.config = copy.copy(attention.config)
    attention.config._attn_implementation = implementation
