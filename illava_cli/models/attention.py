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
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from illava_cli.errors import MergeError
from illava_cli.models.hf import ALL_ATTENTION_FUNCTIONS, versions
from illava_cli.models.lse import attention_with_lse
from illava_cli.models.windows import Windows

PLAIN = "illava"
# Qwen2-VL's vision attention calls a back end whose name contains "flash" once, with all segments
# packed and no copy of their lengths to the host; any other it calls segment by segment.
PACKED = "illava_flash_packed"

# takes queries, keys, scaling and, where it is known, each query's log-sum-exp
Scorer = Callable[[Tensor, Tensor, float, Tensor | None], Tensor | None]
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
        self.is_flash = "flash" in self.config._attn_implementation
        self.scorer: Scorer | None = None
        self.bias: Tensor | None = None
        self.scores: Tensor | None = None
        self.met = False  # whether our function ran since the recording began

    @contextmanager
    def recording(self, scorer: Scorer | None, bias: Tensor | None = None) -> Iterator[Tap]:
        """Let the next call of this attention also compute `scorer(query, key, scaling, lse)`.

        Args:
            bias: (B, K) added to the logits of each key; the scorer adds it by itself.

        Raises:
            MergeError: the model took another attention function, which knows of neither.
        """
        self.scorer, self.bias, self.scores, self.met = scorer, bias, None, False
        try:
            yield self
        finally:
            self.scorer = self.bias = None
        if not self.met and not (scorer is None and bias is None):
            raise MergeError(f"what attention tokens receive was not measured: it ran past us ({versions()})")


@dataclass(frozen=True)
class Segments:
    """Packed segments of equal length: a batch."""

    length: int
    ragged: ClassVar[bool] = False
    mask: ClassVar[None] = None  # every place holds a token

    def unpack(self, x: Tensor) -> Tensor:
        """(1, H, S * n, D) -> (S, H, n, D)."""
        return x[0].unflatten(1, (-1, self.length)).transpose(0, 1)

    def pack(self, x: Tensor) -> Tensor:
        """(S, n, ...) -> (1, S * n, ...)."""
        return x.flatten(0, 1).unsqueeze(0)


def tapped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """The registered attention function; arguments as `transformers` passes them.

    Packed tokens come from our loop with the length of their segments (`max_length_q`) or with their
    `Windows`, from a tower that is called without our loop with borders.
    """
    module.tap.met = True
    packing, borders = kwargs.pop("windows", None), None
    if (length := kwargs.pop("max_length_q", None)) is not None:
        packing = packing or Segments(length)
        borders = kwargs.pop("cu_seq_lens_q")
        for name in ("max_length_k", "cu_seq_lens_k"):
            kwargs.pop(name)
    if borders is not None:
        return _attend_by_segment(module, query, key, value, borders, **kwargs), None
    if packing is None:
        return _attend(module, query, key, value, with_bias(attention_mask, module.tap.bias), **kwargs), None
    if packing.ragged and module.tap.is_flash:
        return _attend_by_length(module, query, key, value, packing, **kwargs), None
    attention_mask = with_bias(packing.mask, module.tap.bias, packing)
    query, key, value = map(packing.unpack, (query, key, value))
    return packing.pack(_attend(module, query, key, value, attention_mask, **kwargs)), None


def with_bias(
    mask: Tensor | None, bias: Tensor | None, packing: Segments | Windows | None = None
) -> Tensor | None:
    """What is added to the logits: `mask` (..., K) and the keys' `bias` (B, K), unpacked as the keys are."""
    if bias is None:
        return mask
    if packing is None:
        own = bias[:, None, None]
    else:
        own = packing.unpack(bias.reshape(1, 1, -1, 1)).transpose(2, 3)  # (segments or windows, 1, 1, K)
    return own if mask is None else mask + own


def _attend(module: nn.Module, query, key, value, attention_mask: Tensor | None, **kwargs) -> Tensor:
    """A batch through the back end, and scored where that is asked for."""
    tap: Tap = module.tap
    if tap.scorer is not None:
        attended = _with_lse(module, query, key, value, attention_mask, **kwargs)
        tap.scores = tap.scorer(query, key, kwargs["scaling"], attended and attended[1])
        if attended is not None:
            return attended[0]
    return _run(module, query, key, value, attention_mask, **kwargs)


def _attend_by_segment(module: nn.Module, query, key, value, borders: Tensor, **kwargs) -> Tensor:
    """Segments of any length, one by one, as `transformers` has it for all but FlashAttention."""
    lengths = borders.diff().tolist()
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    return torch.cat([_attend(module, *part, None, **kwargs) for part in parts], dim=1)


def _attend_by_length(module: nn.Module, query, key, value, windows: Windows, **kwargs) -> Tensor:
    """FlashAttention takes no mask: it gets windows one behind another, and their borders on the device."""
    tap: Tap = module.tap
    if tap.scorer is not None:
        tap.scores = tap.scorer(windows.unpack(query), windows.unpack(key), kwargs["scaling"], None)
    order, borders = windows.sorted()
    longest = windows.size * windows.group
    lengths = {f"cu_seq_lens_{side}": borders for side in "qk"} | {
        f"max_length_{side}": longest for side in "qk"
    }
    query, key, value = (x[:, :, order] for x in (query, key, value))
    return _run(module, query, key, value, None, **lengths, **kwargs)[:, order.argsort()]


def _run(module: nn.Module, query, key, value, attention_mask: Tensor | None, **kwargs) -> Tensor:
    """The back end that the model was loaded with."""
    tap: Tap = module.tap
    if not tap.is_flash:
        return tap.backend(module, query, key, value, attention_mask, **kwargs)[0]
    tapped, module.config = module.config, tap.config  # FlashAttention looks its own name up on the module
    try:
        return tap.backend(module, query, key, value, attention_mask, **kwargs)[0]
    finally:
        module.config = tapped


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
