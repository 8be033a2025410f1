"""Attention received on a GPU, by two Triton kernels: each query's log-sum-exp, then sums over columns.

Nothing of size N x N exists: beyond the result there is one float per query and head, and one per key
and key head. Logits are not rounded to the model's dtype, repeated runs give the same bits, and nothing
waits for the device. A kernel is compiled per head dim, dtype and kind of mask, never per length.
"""

from __future__ import annotations

import functools
import math
import warnings

import torch
from torch import Tensor

# (bytes of a number, widest padded head dim) -> rows, keys, warps and stages of a program.
# Chosen so that nothing spills and shared memory stays within 65 KiB (sm_80 to sm_120); not yet timed.
TILES = [
    (2, 64, (64, 64, 4, 3)),
    (2, 128, (64, 64, 4, 2)),
    (2, 256, (64, 32, 4, 2)),
    (4, 64, (32, 32, 4, 2)),
    (4, 256, (32, 32, 8, 2)),
]


DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def available(device: torch.device | None = None, dtype: torch.dtype = torch.float16, dim: int = 16) -> bool:
    """Whether the kernels run on this GPU (or the current one) for queries of this dtype and head dim.

    Always true under triton's interpreter.
    """
    try:
        if _interpreted():
            return True
    except ImportError:
        return False
    if not torch.cuda.is_available():
        return False
    return _compiles(device or torch.device("cuda", torch.cuda.current_device()), dtype, dim)


def _interpreted() -> bool:
    from triton.runtime import JITFunction

    from illava_cli.reduction.triton_kernels import column_sums

    return not isinstance(column_sums, JITFunction)


@functools.cache
def _compiles(device: torch.device, dtype: torch.dtype, dim: int) -> bool:
    """Try it: Triton needs a C compiler at run time, which slim images lack, and tensor cores of 8.0 on."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    x = torch.zeros(1, 1, 1, dim, dtype=dtype, device=device)
    try:
        received_attention_triton(x, x, scaling=1.0)
    except Exception as error:
        reason = f"Triton does not run here for {dtype} with head dim {dim}: {error}"
        warnings.warn(f"scores are computed by PyTorch: {reason}", stacklevel=2)
        return False
    return True


def received_attention_triton(
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
    """`received_attention` for `DTYPES`, with the same arguments; without `lse` it is twice the work.

    Returns:
        (B, K) in float32. A query that sees no key counts for nothing.
    """
    from illava_cli.reduction.triton_kernels import column_sums, log_sum_exp

    if key_valid is not None:
        key_valid = key_valid.contiguous()
    if query_group is not None:
        query_group, key_group = query_group.int().contiguous(), key_group.int().contiguous()
    batch, heads, queries, dim = query.shape
    kv_heads, keys = key.shape[1:3]
    rows, columns, warps, stages = _tile(query.dtype, dim)
    query, key = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key))
    if query.dtype == torch.bfloat16 and _interpreted():  # it would multiply their bits as integers
        query, key = query.float(), key.float()
    strides = [*query.stride()[:3], *key.stride()[:3]]
    unit = 8 if all(stride % 8 == 0 for stride in strides) else 1
    group = heads // kv_heads
    first = query_start + (causal_offset or 0)
    sizes = [queries, keys, kv_heads, first, scaling * math.log2(math.e)]
    numbers = [*(stride // unit for stride in strides), *sizes]
    options = {
        "CAUSAL": causal_offset is not None,
        "GROUP": group,
        "DIM": dim,
        "WIDTH": _width(dim),
        "UNIT": unit,
        "ROWS": rows,
        "KEYS": columns,
        "num_warps": warps,
        "num_stages": stages,
        "enable_fp_fusion": True,  # whatever triton's default is
    }

    received = torch.zeros(batch, kv_heads, keys, dtype=torch.float32, device=query.device)
    if 0 in (batch, queries, keys):
        return received.sum(1)
    with torch.cuda.device_of(query):  # Triton launches on the current device
        if lse is None:
            lse = torch.empty(batch, heads, queries, dtype=torch.float32, device=query.device)
            grid = batch * kv_heads, -(-queries * group // rows)
            log_sum_exp[grid](query, key, lse, key_valid, *numbers, **options)
        elif lse.shape != (batch, heads, queries):
            raise ValueError(
                f"lse is {tuple(lse.shape)}; it takes {(batch, heads, queries)}: cut off padding"
            )
        grid = batch * kv_heads, -(-keys // columns)
        column_sums[grid](
            query,
            key,
            lse.float().contiguous(),
            received,
            key_valid,
            query_group,
            key_group,
            *numbers,
            INCLUDE_SELF=include_self,
            **options,
        )
    return received.sum(1)


def _width(dim: int) -> int:
    return max(16, 1 << (dim - 1).bit_length())  # the smallest side of a tensor-core product is 16


def _tile(dtype: torch.dtype, dim: int) -> tuple[int, int, int, int]:
    for size, widest, tile in TILES:
        if dtype.is_floating_point and size == dtype.itemsize and _width(dim) <= widest:
            return tile
    raise ValueError(f"no kernel for {dtype} with head dim {dim}: use received_attention")
