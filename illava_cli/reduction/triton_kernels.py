"""The two kernels behind `triton_scores`. Importing this needs triton.

The G query heads that share a key head are laid side by side: row `r` is query `r // G` of head `r % G`
of their group. So keys are read once for all of them, one query is a whole block, and under a causal
mask rows stand in order. D is padded to WIDTH, a power of two, with zeros; logits are in units of log2.
"""

import triton
import triton.language as tl

NUMBERS = ["q_batch", "q_head", "q_token", "k_batch", "k_head", "k_token"]  # strides
NUMBERS += ["queries", "keys", "kv_heads", "first", "scaling"]  # no new kernel for new values of these


@triton.jit
def _vectors(base, token, head, exists, token_stride, head_stride, DIM: tl.constexpr, WIDTH: tl.constexpr,
             UNIT: tl.constexpr):  # fmt: skip
    """(len(token), WIDTH) queries or keys; strides are in UNITs, so that their alignment is known."""
    column = tl.arange(0, WIDTH)
    place = (token.to(tl.int64) * token_stride + head * head_stride) * UNIT
    mask = exists[:, None]
    if WIDTH > DIM:
        mask = mask & (column < DIM)[None, :]
    return tl.load(base + place[:, None] + column[None, :], mask=mask, other=0.0)


@triton.jit(do_not_specialize=NUMBERS)
def log_sum_exp(
    query, key, lse, key_valid,
    q_batch, q_head, q_token, k_batch, k_head, k_token,
    queries, keys, kv_heads, first, scaling,
    CAUSAL: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, UNIT: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """lse (B, H, Q): natural logarithm of each query's sum of exponentials; -inf where it sees no key.

    `scaling` includes log2(e). Grid: (B * H_kv, blocks of rows).
    """
    pair = tl.program_id(0).to(tl.int64)
    batch, kv_head = pair // kv_heads, pair % kv_heads
    block = tl.num_programs(1) - 1 - tl.program_id(1)  # under a causal mask the longest come first
    row = block * ROWS + tl.arange(0, ROWS)
    token = row // GROUP
    head = kv_head * GROUP + row % GROUP
    exists = token < queries
    query += batch * q_batch * UNIT
    key += batch * k_batch * UNIT
    q = _vectors(query, token, head, exists, q_token, q_head, DIM, WIDTH, UNIT)

    stop = keys
    if CAUSAL:
        stop = tl.minimum(stop, first + (block * ROWS + ROWS - 1) // GROUP + 1)
    stop = tl.where(block * ROWS < queries * GROUP, stop, 0)
    peak = tl.full([ROWS], -1e30, tl.float32)  # finite, so that a row without keys gives no NaN
    total = tl.full([ROWS], 0.0, tl.float32)
    for begin in range(0, stop, KEYS):
        index = begin + tl.arange(0, KEYS)
        valid = index < keys
        k = _vectors(key, index, kv_head, valid, k_token, k_head, DIM, WIDTH, UNIT)
        if key_valid is not None:
            valid = valid & (tl.load(key_valid + batch * keys + index, mask=valid, other=0) != 0)
        seen = valid[None, :]
        if CAUSAL:
            seen = seen & (index[None, :] <= (first + token)[:, None])
        logits = tl.dot(q, tl.trans(k), input_precision="ieee") * scaling  # (ROWS, KEYS)
        logits = tl.where(seen, logits, float("-inf"))
        higher = tl.maximum(peak, tl.max(logits, 1))
        total = total * tl.exp2(peak - higher) + tl.sum(tl.exp2(logits - higher[:, None]), 1)
        peak = higher
    value = (peak + tl.log2(total)) * 0.6931471805599453  # log 2
    tl.store(lse + (batch * kv_heads * GROUP + head) * queries + token, value, mask=exists)


@triton.jit(do_not_specialize=NUMBERS)
def column_sums(
    query, key, lse, received, key_valid, query_group, key_group,
    q_batch, q_head, q_token, k_batch, k_head, k_token,
    queries, keys, kv_heads, first, scaling,
    CAUSAL: tl.constexpr, INCLUDE_SELF: tl.constexpr,
    GROUP: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, UNIT: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """received (B, H_kv, K): attention received from the query heads of each key head, over H.

    Grid: (B * H_kv, blocks of keys). A program owns its keys: no atomics, the same order every time.
    """
    pair = tl.program_id(0).to(tl.int64)
    batch, kv_head = pair // kv_heads, pair % kv_heads
    index = tl.program_id(1) * KEYS + tl.arange(0, KEYS)
    exists = index < keys
    query += batch * q_batch * UNIT
    key += batch * k_batch * UNIT
    lse += batch * kv_heads * GROUP * queries
    k = _vectors(key, index, kv_head, exists, k_token, k_head, DIM, WIDTH, UNIT)
    valid = exists
    if key_valid is not None:
        valid = valid & (tl.load(key_valid + batch * keys + index, mask=exists, other=0) != 0)
    if key_group is not None:
        of_key = tl.load(key_group + batch * keys + index, mask=exists, other=-1)
        valid = valid & (of_key >= 0)

    begin = 0
    if CAUSAL:  # earlier queries see none of these keys
        begin = tl.maximum(tl.program_id(1) * KEYS - first, 0) * GROUP
    stop = tl.where(tl.program_id(1) * KEYS < keys, queries * GROUP, 0)
    total = tl.full([KEYS], 0.0, tl.float32)
    for block in range(begin, stop, ROWS):
        row = block + tl.arange(0, ROWS)
        token = row // GROUP
        head = kv_head * GROUP + row % GROUP
        own = first + token
        asks = token < queries
        q = _vectors(query, token, head, asks, q_token, q_head, DIM, WIDTH, UNIT)
        norm = tl.load(lse + head * queries + token, mask=asks, other=0.0)
        logits = tl.dot(k, tl.trans(q), input_precision="ieee") * scaling  # (KEYS, ROWS)
        share = tl.exp2(logits - (norm * 1.4426950408889634)[None, :])  # log2(e)
        counted = valid[:, None] & asks[None, :]
        if CAUSAL:
            counted = counted & (index[:, None] <= own[None, :])
        if not INCLUDE_SELF:
            counted = counted & (index[:, None] != own[None, :])
        if query_group is not None:
            of_query = tl.load(query_group + batch * queries + token, mask=asks, other=-1)
            counted = counted & (of_key[:, None] == of_query[None, :])
        total += tl.sum(tl.where(counted, share, 0.0), 1)
    total = total / (kv_heads * GROUP)
    tl.store(received + (batch * kv_heads + kv_head) * keys + index, total, mask=exists)
