"""Attention received by each token, exactly, without an N x N map in memory (paper eq. 1 and 2).

The map is softmaxed and summed over its columns a block of queries at a time, so that extra memory
grows with N and not with its square. Only merge layers pay for it. On CUDA a Triton kernel does the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction import triton_scores
from illava_cli.reduction.merge import accumulation_dtype

CHUNK_BYTES = 32 << 20  # one block of attention probabilities
CHUNK_QUERIES = 64  # measured on CPU: 32 to 128 queries a block are best


def _blocks(queries: int, bytes_per_query: int) -> range:
    return range(0, queries, max(1, min(CHUNK_QUERIES, CHUNK_BYTES // max(1, bytes_per_query))))


def received_attention(
    query: Tensor,
    key: Tensor,
    *,
    scaling: float,
    causal_offset: int | None = None,
    key_valid: Tensor | None = None,
    query_group: Tensor | None = None,
    key_group: Tensor | None = None,
    include_self: bool = False,
    query_start: int = 0,
) -> Tensor:
    """Sum over queries of the attention that each key receives, averaged over heads.

    Eq. 1 is this divided by N-1; eq. 2 the same with the visual tokens as queries.

    Args:
        query: (B, H, Q, D).
        key: (B, H_kv, K, D), with H a multiple of H_kv (grouped-query attention).
        scaling: factor on the logits, usually D ** -0.5.
        causal_offset: number of keys before the first query; a query then sees the keys up to its
            own. None: every query sees every key, and query i is key i.
        key_valid: (B, K) False for padding keys.
        query_group, key_group: (B, Q) and (B, K); a key counts only the queries of its own group,
            and a negative group counts for nothing.
        include_self: also count a token's attention to itself (the authors' code; eq. 1 leaves it out).
        query_start: index of the first query among those that `causal_offset` counts from.

    Returns:
        (B, K) in float32 (float64 for float64 inputs).
    """
    if (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and triton_scores.available(query.device)
    ):
        return triton_scores.received_attention_triton(
            query,
            key,
            scaling=scaling,
            causal_offset=causal_offset,
            key_valid=key_valid,
            query_group=query_group,
            key_group=key_group,
            include_self=include_self,
            query_start=query_start,
        )
    batch, heads, queries, dim = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    wide = accumulation_dtype(query.dtype)
    transposed = key.transpose(-1, -2).unsqueeze(2)  # (B, H_kv, 1, D, K)
    grouped = query.reshape(batch, kv_heads, heads // kv_heads, queries, dim)
    first = query_start + (causal_offset or 0)  # key index of query 0
    key_index = torch.arange(keys, device=query.device)
    received = torch.zeros(batch, keys, dtype=wide, device=query.device)

    for start in (blocks := _blocks(queries, batch * heads * keys * wide.itemsize)):
        stop = min(start + blocks.step, queries)
        logits = (grouped[:, :, :, start:stop] @ transposed).to(wide) * scaling  # (B, H_kv, G, q, K)
        own = torch.arange(first + start, first + stop, device=query.device)[:, None]  # (q, 1)
        if causal_offset is not None:
            logits.masked_fill_(key_index > own, -torch.inf)
        if key_valid is not None:
            logits.masked_fill_(~key_valid[:, None, None, None, :], -torch.inf)
        share = torch.softmax(logits, dim=-1).mean(dim=(1, 2))  # (B, q, K)
        if key_valid is not None:
            share = share.nan_to_num(0)  # a padding query sees no key
        if not include_self:
            share = share.masked_fill(key_index == own, 0)
        if query_group is not None:
            group = query_group[:, start:stop, None]
            share = share.where((group == key_group[:, None, :]) & (group >= 0), 0)
        received += share.sum(1)
    return received
