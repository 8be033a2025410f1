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

from illava_cli.errors import MergeError
from illava_cli.models.backends import BACKENDS
from illava_cli.models.hf import ALL_ATTENTION_FUNCTIONS, versions
from illava_cli.models.lse import attention_with_lse

PLAIN = "illava"

# takes queries, keys, scaling and, where it is known, each query's log-sum-exp
Scorer = Callable[[Tensor, Tensor, float, Tensor | None], Tensor | None]
# what some models ask of attention beside a mask; the kernel with the log-sum-exp knows none of it
UNLIKE_FLASH = ("sliding_window", "softcap", "position_bias", "s_aux")


class Tap:
    """What our attention function needs to know about one attention module."""

    def __init__(self, attention: nn.Module):
        name = attention.config._attn_implementation
        eager = sys.modules[type(attention).__module__].eager_attention_forward
        self.backend = BACKENDS[name]
        self.run = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)
        # the module as its back end knows it: FlashAttention looks its own name up in the config
        self.stock = copy.copy(attention)
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


def tapped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """The registered attention function; arguments as `transformers` passes them."""
    tap: Tap = module.tap
    tap.met = True
    if tap.bias is not None:
        bias = tap.bias[:, None, None]
        attention_mask = bias if attention_mask is None else attention_mask + bias
    return attend(module, query, key, value, attention_mask, **kwargs), None


def attend(module: nn.Module, query, key, value, attention_mask: Tensor | None, **kwargs) -> Tensor:
    """A batch through the back end, and scored where that is asked for."""
    tap: Tap = module.tap
    if tap.scorer is not None:
        attended = _with_lse(module, query, key, value, attention_mask, **kwargs)
        tap.scores = tap.scorer(query, key, kwargs["scaling"], attended and attended[1])
        if attended is not None:
            return attended[0]
    return run_backend(module, query, key, value, attention_mask, **kwargs)


def run_backend(module: nn.Module, query, key, value, attention_mask: Tensor | None, **kwargs) -> Tensor:
    """The back end that the model was loaded with."""
    tap: Tap = module.tap
    return tap.run(tap.stock, query, key, value, attention_mask, **kwargs)[0]


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
    if attention_mask is not None or dropout or not module.tap.backend.flash:
        return None
    if any(others.get(name) is not None for name in UNLIKE_FLASH):
        return None
    causal = module.is_causal if is_causal is None else is_causal
    return attention_with_lse(query, key, value, causal=causal and query.shape[2] > 1, scaling=scaling)


AttentionInterface.register(PLAIN, tapped_attention)


def install_tap(attention: nn.Module, implementation: str = PLAIN) -> None:
    """Put a tap on one attention module."""
    attention.tap = Tap(attention)
    attention.config = copy.copy(attention.config)
    attention.config._attn_implementation = implementation
