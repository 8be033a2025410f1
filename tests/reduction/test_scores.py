"""Attention received against the full map of an eager softmax, and against loops."""

import pytest
import torch

from illava_cli.reduction import received_attention
from illava_cli.reduction import scores as scores_module
from tests.reduction.slow import full_map


@pytest.mark.parametrize("tokens", [1, 7, 63, 129, 729])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_eq_1(tokens, dtype, atol):
    torch.manual_seed(tokens)
    query, key = torch.randn(2, 2, 4, tokens, 16, dtype=dtype).unbind(0)
    weights = full_map(query.double(), key.double(), 0.25)
    off_diagonal = weights - torch.diag_embed(weights.diagonal(dim1=1, dim2=2))
    received = received_attention(query, key, scaling=0.25)
    n = max(1, tokens - 1)
    torch.testing.assert_close(received.double() / n, off_diagonal.sum(1) / n, atol=atol, rtol=0)
    with_self = received_attention(query, key, scaling=0.25, include_self=True)
    torch.testing.assert_close(with_self.double() / n, weights.sum(1) / n, atol=atol, rtol=0)


def test_causal_grouped_queries_padding_and_groups():
    """Everything at once, against a loop over queries and keys."""
    torch.manual_seed(0)
    past, tokens = 5, 11
    query = torch.randn(2, 6, tokens, 8, dtype=torch.float64)
    key = torch.randn(2, 2, past + tokens, 8, dtype=torch.float64)
    valid = torch.ones(2, past + tokens, dtype=torch.bool)
    valid[1, :3] = False
    groups = torch.tensor([[-1, 0, 0, 0, -1, 1, 1, 1, 1, -1, -1]] * 2)
    key_groups = torch.cat([torch.full((2, past), -1), groups], 1)
    weights = full_map(query, key, 0.3, past, valid)
    expected = torch.zeros(2, past + tokens, dtype=torch.float64)
    for b in range(2):
        for q in range(tokens):
            for k in range(past + tokens):
                if groups[b, q] >= 0 and groups[b, q] == key_groups[b, k] and k != past + q:
                    expected[b, k] += weights[b, q, k]
    received = received_attention(
        query,
        key,
        scaling=0.3,
        causal_offset=past,
        key_valid=valid,
        query_group=groups,
        key_group=key_groups,
    )
    torch.testing.assert_close(received, expected, atol=1e-12, rtol=0)
    part = received_attention(
        query[:, :, 4:9],
        key,
        scaling=0.3,
        causal_offset=past,
        query_start=4,
        key_valid=valid,
        query_group=groups[:, 4:9],
        key_group=key_groups,
    )
    second = key_groups == 1
    torch.testing.assert_close(part[second], expected[second], atol=1e-12, rtol=0)


@pytest.mark.parametrize("past", [None, 5])
def test_a_log_sum_exp_from_elsewhere_changes_nothing(past):
    torch.manual_seed(0)
    query = torch.randn(2, 6, 40, 8, dtype=torch.float64)
    key = torch.randn(2, 2, 40 + (past or 0), 8, dtype=torch.float64)
    logits = query @ key.repeat_interleave(3, 1).mT * 0.3
    if past is not None:
        hidden = torch.arange(key.shape[2]) > torch.arange(40)[:, None] + past
        logits = logits.masked_fill(hidden, -torch.inf)
    options = {"scaling": 0.3, "causal_offset": past}
    expected = received_attention(query, key, **options)
    given = received_attention(query, key, **options, lse=logits.logsumexp(-1))
    torch.testing.assert_close(given, expected, atol=1e-13, rtol=0)


def test_a_query_that_sees_nothing_gives_no_nan():
    query, key = torch.randn(2, 1, 2, 4, 8).unbind(0)
    valid = torch.zeros(1, 4, dtype=torch.bool)
    received = received_attention(query, key, scaling=1.0, causal_offset=0, key_valid=valid)
    assert received.isfinite().all()


def test_blocks_do_not_change_the_result(monkeypatch):
    query, key = torch.randn(2, 1, 3, 100, 8, dtype=torch.float64).unbind(0)
    whole = received_attention(query, key, scaling=0.3)
    for budget in (1, 7 * 3 * 100 * 8, 1 << 30):
        monkeypatch.setattr(scores_module, "CHUNK_BYTES", {"cpu": budget})
        torch.testing.assert_close(received_attention(query, key, scaling=0.3), whole, atol=1e-13, rtol=0)


def test_large_logits_do_not_overflow_in_float16():
    """Raw products beyond float16's range: scaled in the product, they stay finite."""
    torch.manual_seed(0)
    query, key = (torch.randn(1, 2, 9, 64, dtype=torch.float64) * 90 for _ in range(2))
    assert (query @ key.transpose(-1, -2)).abs().max() > 65504
    exact = received_attention(query.half().double(), key.half().double(), scaling=0.125)
    half = received_attention(query.half(), key.half(), scaling=0.125)
    assert half.isfinite().all()
    torch.testing.assert_close(half.double(), exact, atol=1e-2, rtol=0)
