"""The Triton kernels against an eager softmax in float64: interpreted on the CPU, compiled on a GPU."""

import os
import sys

import pytest
import torch

triton = pytest.importorskip("triton", reason="needs Triton: pip install triton")

import triton.language as tl  # noqa: E402
from triton.runtime import JITFunction  # noqa: E402
from triton.runtime.interpreter import InterpretedFunction  # noqa: E402

from illava_cli.reduction import received_attention, triton_scores  # noqa: E402
from illava_cli.reduction.triton_scores import received_attention_triton  # noqa: E402
from tests.needs import skip  # noqa: E402
from tests.reduction.slow import full_map  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")  # inf is wanted
KERNELS = "illava_cli.reduction.triton_kernels"
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
# relative, and absolute below 1. Products of 16-bit numbers are exact in float32, so the interpreter is as
# exact for them as for float32; tensor cores add with fewer bits.
TOLERANCE = {"cpu": {F32: 2e-6, F16: 2e-6, BF16: 2e-6}, "cuda": {F32: 2e-5, F16: 2e-4, BF16: 2e-4}}
PYTORCH_TOLERANCE = {F32: 2e-5, F16: 5e-3, BF16: 4e-2}  # that path rounds logits to the inputs' dtype


@pytest.fixture(
    scope="module",
    autouse=True,
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request):
    """Kernels that are interpreted for "cpu", and gone afterwards; compiled ones for "cuda"."""
    if request.param == "cuda":
        yield request.param
        return
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7):
        skip("Triton", "the interpreter before 3.7 fails with numpy 2.4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TRITON_INTERPRET", "1")
        for name, helper in list(vars(tl).items()):  # triton may have been imported without the variable
            if isinstance(helper, JITFunction):
                patch.setattr(tl, name, InterpretedFunction(helper.fn))
        patch.delitem(sys.modules, KERNELS, raising=False)
        yield request.param
        sys.modules.pop(KERNELS, None)


def random(batch, heads, kv_heads, queries, keys, dim, dtype, seed=0):
    """Queries and keys whose attention has peaks."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, heads, queries, dim, generator=generator) * 1.5
    key = torch.randn(batch, kv_heads, keys, dim, generator=generator) * 1.5
    return query.to(dtype), key.to(dtype)


def eager(query, key, *, scaling, causal_offset=None, key_valid=None, query_group=None, key_group=None,
          include_self=False, query_start=0):  # fmt: skip
    """The definition, in float64 with the whole map."""
    first = query_start + (causal_offset or 0)
    weights = full_map(
        query.double(), key.double(), scaling, None if causal_offset is None else first, key_valid
    )
    weights = weights.nan_to_num(0)  # a query that sees no key
    own = torch.arange(query.shape[2])[:, None] + first
    if not include_self:
        weights = weights.masked_fill(torch.arange(key.shape[2]) == own, 0)
    if query_group is not None:
        same = (query_group[:, :, None] == key_group[:, None]) & (query_group[:, :, None] >= 0)
        weights = weights * same
    return weights.sum(1)


def log_sum_exp(query, key, scaling, causal_offset=None, key_valid=None):
    """What an attention back end gives: (B, H, Q)."""
    logits = query.double() @ key.double().repeat_interleave(query.shape[1] // key.shape[1], 1).mT * scaling
    if causal_offset is not None:
        own = torch.arange(query.shape[2])[:, None] + causal_offset
        logits = logits.masked_fill(torch.arange(key.shape[2]) > own, -torch.inf)
    if key_valid is not None:
        logits = logits.masked_fill(~key_valid[:, None, None], -torch.inf)
    return logits.logsumexp(-1).float()


def on(device, options):
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in options.items()}


def check(device, query, key, tolerance=None, **options):
    """The kernels' result against the definition's; lse, if any, goes to the kernels alone."""
    received = received_attention_triton(query.to(device), key.to(device), **on(device, options))
    assert received.dtype == torch.float32
    options.pop("lse", None)
    tolerance = tolerance or TOLERANCE[device][query.dtype]
    expected = eager(query, key, **options)
    torch.testing.assert_close(received.cpu().double(), expected, rtol=tolerance, atol=tolerance)
    return received


@pytest.mark.parametrize("causal_offset", [None, 0])
@pytest.mark.parametrize(
    ("tokens", "dtype"),
    [(1, F32), (7, F32), (63, F32), (63, F16), (63, BF16), (129, F32), (729, F16), (1000, BF16)],
)
def test_odd_sizes(device, tokens, dtype, causal_offset):
    query, key = random(1, 2, 1, tokens, tokens, 16, dtype, seed=tokens)
    check(device, query, key, scaling=0.25, causal_offset=causal_offset)


@pytest.mark.parametrize("dim", [16, 24, 72, 80, 128, 256])
def test_head_dims(device, dim):
    for dtype, include_self in [(F32, True), (F16, False), (BF16, True)]:
        query, key = random(1, 2, 2, 70, 70, dim, dtype)
        check(device, query, key, scaling=dim**-0.5, include_self=include_self)


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize("given", [False, True], ids=["", "lse"])
def test_causal_grouped_queries_padding_groups_and_a_subset_of_queries(device, dtype, given):
    past, tokens = 22, 66  # 22: a block's last query sees one key beyond a block of keys
    query, key = random(2, 6, 2, tokens, past + tokens, 24, dtype)
    valid = torch.ones(2, past + tokens, dtype=torch.bool)
    valid[1, : past + 8] = False  # so that the first queries see nothing
    group = torch.full((2, tokens), -1)
    group[:, 10:35], group[:, 39:60] = 0, 1
    key_group = torch.cat([torch.full((2, past), -1), group], 1)
    options = {"scaling": 0.2, "causal_offset": past, "key_valid": valid}
    groups = {"query_group": group, "key_group": key_group}
    lse = log_sum_exp(query, key, 0.2, past, valid) if given else None
    check(device, query, key, **options, lse=lse)
    check(device, query, key, **options, **groups, include_self=True, lse=lse)
    for start, stop in [(10, 60), (41, 42)]:
        part = {"query_group": group[:, start:stop], "key_group": key_group, "query_start": start}
        part["lse"] = lse[:, :, start:stop] if given else None
        check(device, query[:, :, start:stop], key, **options, **part)
    check(device, query[:, :, -1:], key, **options, query_start=tokens - 1)  # the last query, no groups


def test_padding_and_groups_without_a_causal_mask(device):
    torch.manual_seed(0)
    query, key = random(2, 4, 2, 100, 100, 16, F16)
    valid = torch.rand(2, 100) > 0.2
    group = torch.randint(-1, 3, (2, 100))
    check(device, query, key, scaling=0.25, key_valid=valid, query_group=group, key_group=group)
    lse = log_sum_exp(query, key, 0.25, key_valid=valid)
    check(device, query, key, scaling=0.25, key_valid=valid, lse=lse)


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_equals_the_pytorch_path(device, dtype):
    torch.manual_seed(0)
    query, key = (x.to(device) for x in random(1, 4, 2, 100, 130, 32, dtype))
    group = torch.randint(-1, 2, (1, 130)).to(device)
    groups = {"query_group": group[:, 30:], "key_group": group}
    for options in ({}, {"causal_offset": 30}, {"causal_offset": 20, "query_start": 10, **groups}):
        received = received_attention_triton(query, key, scaling=0.2, **options)
        expected = received_attention(query, key, scaling=0.2, **options)
        tolerance = PYTORCH_TOLERANCE[dtype]
        torch.testing.assert_close(received, expected, rtol=tolerance, atol=tolerance)


def test_large_logits(device):
    query, key = random(1, 2, 2, 100, 100, 16, F32)
    tolerance = 1e-4  # of logits near 1,000, float32 keeps four decimals
    check(device, query * 10, key * 10, tolerance, scaling=0.5)
    check(device, query * 10, key * 10, tolerance, scaling=0.5, causal_offset=0)


def test_runs_are_bit_equal(device):
    query, key = (x.to(device) for x in random(1, 6, 2, 200, 200, 16, F16))
    first = received_attention_triton(query, key, scaling=0.3, causal_offset=0)
    assert torch.equal(received_attention_triton(query, key, scaling=0.3, causal_offset=0), first)


def test_layout_does_not_matter(device):
    """As models give them: heads after tokens, a slice of the queries, and rows that are not aligned."""
    query, key = (x.to(device) for x in random(2, 4, 2, 90, 90, 24, F16))
    expected = received_attention_triton(query, key, scaling=0.3)
    for layout in (
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: torch.nn.functional.pad(x, (0, 3, 0, 6))[:, :, :90, :24],
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        assert torch.equal(received_attention_triton(layout(query), layout(key), scaling=0.3), expected)


def test_a_query_that_sees_nothing_counts_for_nothing(device):
    query, key = (x.to(device) for x in random(1, 2, 2, 4, 4, 16, F32))
    valid = torch.zeros(1, 4, dtype=torch.bool, device=device)
    options = {"scaling": 1.0, "causal_offset": 0, "key_valid": valid}
    received = [received_attention_triton(query, key, **options)]
    for value in (torch.inf, -torch.inf):  # back ends differ in what they give for such a row
        lse = torch.full((1, 2, 4), value, device=device)
        received.append(received_attention_triton(query, key, **options, lse=lse))
    assert not torch.stack(received).any()


def test_nothing_to_score(device):
    key = torch.zeros(2, 1, 5, 16, device=device)
    assert received_attention_triton(key[:, :, :0], key, scaling=1.0).tolist() == [[0] * 5] * 2
    assert received_attention_triton(key[:, :, :0], key[:, :, :0], scaling=1.0).shape == (2, 0)


def test_available_and_refusals(device):
    assert triton_scores.available()
    x = torch.zeros(1, 1, 4, 16, device=device)
    with pytest.raises(ValueError, match="float64"):
        received_attention_triton(x.double(), x.double(), scaling=1.0)
    with pytest.raises(ValueError, match="cut off padding"):
        received_attention_triton(x, x, scaling=1.0, lse=torch.zeros(1, 1, 32, device=device))


@pytest.mark.gpu
class TestOnTheGpu:
    """What the interpreter cannot show."""

    @pytest.fixture(autouse=True)
    def _compiled(self, device):
        if device != "cuda":
            pytest.skip("for compiled kernels")

    def test_memory(self):
        torch.manual_seed(0)
        query = torch.randn(1, 28, 6272, 128, device="cuda", dtype=BF16)
        key = torch.randn(1, 4, 6272, 128, device="cuda", dtype=BF16)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        received = received_attention_triton(query, key, scaling=128**-0.5, causal_offset=0)
        assert torch.cuda.max_memory_allocated() - before <= 64 << 20
        expected = received_attention(query.double(), key.double(), scaling=128**-0.5, causal_offset=0)
        torch.testing.assert_close(received.double(), expected, rtol=2e-4, atol=2e-4)

    def test_nothing_waits_for_the_device(self):
        query, key = (x.cuda() for x in random(2, 4, 2, 100, 100, 72, F16))
        received_attention_triton(query, key, scaling=0.2)  # compiles
        torch.cuda.set_sync_debug_mode("error")
        try:
            received_attention_triton(query, key, scaling=0.2)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_more_than_2_31_numbers(self):
        if torch.cuda.mem_get_info()[0] < 6 << 30:
            skip("GPU", "6 GiB of its memory")
        far = torch.empty(2**31 + 2**12, dtype=F16, device="cuda").as_strided(
            (2, 1, 64, 16), (2**31, 0, 16, 1)
        )
        query, key = random(2, 1, 1, 64, 64, 16, F16)
        received = received_attention_triton(far.copy_(query), key.cuda(), scaling=0.25)
        torch.testing.assert_close(
            received.cpu().double(), eager(query, key, scaling=0.25), rtol=2e-4, atol=2e-4
        )
