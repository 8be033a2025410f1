"""Attention received by each token, exactly, without an N x N map in memory (paper eq. 1 and 2).

The map is softmaxed and summed over its columns a block at a time, so that extra memory
grows with N and not with its square. Only merge layers pay for it. On CUDA a Triton kernel does the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from illava_cli.reduction import triton_scores
from illava_cli.reduction.merge import accumulation_dtype

# one block of attention probabilities: on a CPU it should stay in the cache
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 32 << 20}


def _blocks(
    heads: int, queries: int, bytes_per_query: int, device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """The heads and the queries of each block: all queries of some heads, or some queries of one head.

    Few queries of many heads would be as large; the products of a block are then narrow, and slow (twice as
    slow at 4,096 tokens of 16 heads in bfloat16 on two CPU cores).
    """
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    wide = max(1, min(heads, budget // max(1, bytes_per_query * queries)))
    long = max(1, min(queries, budget // max(1, bytes_per_query * wide)))
    for head in range(0, heads, wide):
        for start in range(0, queries, long):
            yield slice(head, min(head + wide, heads)), slice(start, min(start + long, queries))


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
    share_of, wide = heads // kv_heads, accumulation_dtype(query.dtype)
    # one head of keys with its heads of queries, of one row
    query = query.reshape(batch * kv_heads, share_of, queries, dim)
    transposed = key.reshape(batch * kv_heads, keys, dim).transpose(1, 2)
    lse = None if lse is None else lse.reshape(batch * kv_heads, share_of, queries, 1).to(wide)
    key_valid, query_group, key_group = (
        None if of_row is None else of_row.repeat_interleave(kv_heads, dim=0)
        for of_row in (key_valid, query_group, key_group)
    )
    first = query_start + (causal_offset or 0)  # key index of query 0
    index = torch.arange(keys, device=query.device)
    received = torch.zeros(batch * kv_heads, keys, dtype=wide, device=query.device)
    nothing = query.new_zeros(1, 1, 1)

    for head, part in _blocks(batch * kv_heads, queries, share_of * keys * wide.itemsize, query.device):
        block = query[head, :, part]  # (U, G, q, D)
        logits = torch.baddbmm(nothing, block.flatten(1, 2), transposed[head], beta=0, alpha=scaling)
        logits = logits.view(*block.shape[:3], keys)
        seen = slice(first + part.start, first + part.stop)
        own = torch.arange(seen.start, seen.stop, device=query.device)[:, None]  # (q, 1)
        if causal_offset is not None:
            logits.masked_fill_(index > own, -torch.inf)
        if key_valid is not None:
            logits.masked_fill_(~key_valid[head, None, None], -torch.inf)
        if lse is None:
            share = torch.softmax(logits, dim=-1, dtype=wide)  # (U, G, q, K)
        else:
            share = torch.exp(logits.to(wide) - lse[head, :, part])
        if key_valid is not None:
            share.nan_to_num_(0)  # a padding query sees no key
        if query_group is None:
            received[head] += share.sum((1, 2))
            if not include_self:
                received[head, seen] -= share[..., seen].diagonal(dim1=2, dim2=3).sum(1)
            continue
        group = query_group[head, part, None]
        counts = (group == key_group[head, None, :]) & (group >= 0)  # (U, q, K)
        if not include_self:
            counts &= index != own
        received[head] += share.sum(1).where(counts, 0).sum(1)
    return received.view(batch, kv_heads, keys).sum(1) / heads
