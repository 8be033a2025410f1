"""Attention received by each token, exactly, without an N x N map in memory (paper eq. 1 and 2).

The map is softmaxed and summed over its columns a block of queries at a time, so that extra memory
grows with N and not with its square. Only merge layers pay for it. On CUDA a Triton kernel does the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.reduction import triton_scores
from illava_cli.reduction.merge import accumulation_dtype

# one block of attention probabilities: on a CPU it should stay in the cache
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 32 << 20}


def _blocks(queries: int, bytes_per_query: int, device: torch.device) -> range:
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    return range(0, queries, max(1, min(queries, budget // max(1, bytes_per_query))))


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
    lse: Tensor | None = None,
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
        lse: (B, H, Q) natural logarithm of each query's sum of exp(scaled logits) over the keys that
            it sees, where the attention back end has it. None: computed here.

    Returns:
        (B, K) in float32 (float64 for float64 inputs).
    """
    kind = query.dtype, query.shape[-1]
    if query.is_cuda and kind[0] in triton_scores.DTYPES and triton_scores.available(query.device, *kind):
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
            lse=lse,
        )
    batch, heads, queries, dim = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    wide = accumulation_dtype(query.dtype)
    grouped = query.reshape(batch * kv_heads, heads // kv_heads, queries, dim)
    transposed = key.reshape(batch * kv_heads, keys, dim).transpose(1, 2)
    first = query_start + (causal_offset or 0)  # key index of query 0
    key_index = torch.arange(keys, device=query.device)
    received = torch.zeros(batch, keys, dtype=wide, device=query.device)
    nothing = query.new_zeros(1, 1, 1)

    for start in (blocks := _blocks(queries, batch * heads * keys * wide.itemsize, query.device)):
        stop = min(start + blocks.step, queries)
        block = grouped[:, :, start:stop].flatten(1, 2)  # (B * H_kv, G * q, D)
        logits = torch.baddbmm(nothing, block, transposed, beta=0, alpha=scaling)
        logits = logits.view(batch, heads, stop - start, keys)
        own = torch.arange(first + start, first + stop, device=query.device)[:, None]  # (q, 1)
        if causal_offset is not None:
            logits.masked_fill_(key_index > own, -torch.inf)
        if key_valid is not None:
            logits.masked_fill_(~key_valid[:, None, None, :], -torch.inf)
        if lse is None:
            share = torch.softmax(logits, dim=-1, dtype=wide)  # (B, H, q, K)
        else:
            share = torch.exp(logits.to(wide) - lse[:, :, start:stop, None].to(wide))
        if key_valid is not None:
            share.nan_to_num_(0)  # a padding query sees no key
        if query_group is None:
            received += share.sum((1, 2))
            if not include_self:
                seen = slice(first + start, first + stop)
                received[:, seen] -= share[..., seen].diagonal(dim1=2, dim2=3).sum(1)
            continue
        group = query_group[:, start:stop, None]
        counts = (group == key_group[:, None, :]) & (group >= 0)  # (B, q, K)
        if not include_self:
            counts &= key_index != own
        received += share.sum(1).where(counts, 0).sum(1)
    return received / heads
