"""Attention over segments that are packed into one sequence, as in Qwen's towers.

Their attention modules call a back end whose name contains "flash" once, with all segments and no copy of
their lengths to the host; any other they call segment by segment. So our function is registered under such a
name, and hands whatever back end there is a batch: of equal segments, or of windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from illava_cli.models.attention import attend, run_backend
from illava_cli.models.windows import Windows

PACKED = "illava_flash_packed"


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

    def spread(self, bias: Tensor) -> Tensor:
        """(S, n) -> (S, 1, 1, n), of each segment's keys."""
        return bias[:, None, None]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    max_length_q: int | None,
    max_length_k: int | None,
    cu_seq_lens_q: Tensor | None,
    cu_seq_lens_k: Tensor | None,
    windows: Windows | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """The registered attention function; arguments as `transformers` passes them.

    Packed tokens come from our loop with the length of their segments (`max_length_q`) or with their
    `Windows`, from a tower that is called without our loop with borders.
    """
    tap = module.tap
    tap.met = True
    if cu_seq_lens_q is not None:
        return _by_segment(module, query, key, value, cu_seq_lens_q, **kwargs), None
    packing = windows or Segments(max_length_q)
    if packing.ragged and tap.backend.packed:
        return _by_length(module, query, key, value, packing, **kwargs), None
    mask = packing.mask
    if tap.bias is not None:
        bias = packing.spread(tap.bias)
        mask = bias if mask is None else mask + bias
    query, key, value = map(packing.unpack, (query, key, value))
    return packing.pack(attend(module, query, key, value, mask, **kwargs)), None


def _by_segment(module: nn.Module, query, key, value, borders: Tensor, **kwargs) -> Tensor:
    """Segments of any length, one by one, as `transformers` has it for all but FlashAttention."""
    lengths = borders.diff().tolist()
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    return torch.cat([attend(module, *part, None, **kwargs) for part in parts], dim=1)


def _by_length(module: nn.Module, query, key, value, windows: Windows, **kwargs) -> Tensor:
    """A back end that takes no mask gets windows one after another, and their borders on the device."""
    tap = module.tap
    if tap.scorer is not None:
        tap.scores = tap.scorer(windows.unpack(query), windows.unpack(key), kwargs["scaling"], None)
    order, borders = windows.sorted()
    longest = windows.size * windows.group
    lengths = {f"cu_seq_lens_{side}": borders for side in "qk"} | {
        f"max_length_{side}": longest for side in "qk"
    }
    query, key, value = (x[:, :, order] for x in (query, key, value))
    return run_backend(module, query, key, value, None, **lengths, **kwargs)[:, order.argsort()]


AttentionInterface.register(PACKED, packed_attention)
