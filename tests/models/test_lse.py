"""Merge layers whose attention gives the log-sum-exp: the same answers, and the kernel's own contract."""

import pytest
import torch

from illava_cli.models import decoder_merge, lse, tower_pass
from illava_cli.reduction import received_attention, triton_scores
from tests.conftest import IMAGES_ONLY, clip, picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32


def flash_cpu(query, key, value, causal, scaling):
    """What `flash_cuda` is on a GPU."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return attend(query, key, value, 0.0, causal, scale=scaling)


def expected_lse(query, key, causal, scaling):
    key = key.double().repeat_interleave(query.shape[1] // key.shape[1], 1)
    logits = query.double() @ key.mT * scaling
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return logits.logsumexp(-1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("device", "dtype", "tolerance"),
    [
        ("cpu", torch.float32, 1e-5),
        pytest.param("cuda", torch.bfloat16, 2e-2, marks=pytest.mark.gpu),
    ],
)
def test_output_and_log_sum_exp(monkeypatch, device, dtype, tolerance, causal):
    """Grouped queries, a head dim that is no power of two, a length that no block divides."""
    if device == "cpu":
        monkeypatch.setitem(lse.KERNELS, "cpu", flash_cpu)
    torch.manual_seed(0)
    query = torch.randn(2, 6, 77, 72).to(dtype)
    key, value = torch.randn(2, 2, 2, 77, 72).to(dtype)
    output, found = lse.attention_with_lse(
        query.to(device), key.to(device), value.to(device), causal=causal, scaling=0.1
    )
    wide = [x.double().repeat_interleave(6 // x.shape[1], 1) for x in (query, key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=causal, scale=0.1)
    torch.testing.assert_close(
        output.cpu().double(), expected.transpose(1, 2), atol=tolerance, rtol=tolerance
    )
    wanted = expected_lse(query, key, causal, 0.1)
    torch.testing.assert_close(found.cpu().double(), wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dim", [64, 72, 80, 128])  # of the towers and decoders of all families
def test_real_models_get_the_fast_way(dim):
    """Without it nothing is wrong, only slower: no other test would tell."""
    device = torch.device("cuda", torch.cuda.current_device())
    if torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("Triton and FlashAttention need compute capability 8.0")
    pytest.importorskip("triton", reason="triton is not installed: PyTorch computes the scores")
    assert triton_scores.available(device, torch.bfloat16, dim)
    query = torch.randn(1, 4, 33, dim, device=device, dtype=torch.bfloat16)
    key = query[:, :2]
    assert lse.attention_with_lse(query, key, key, causal=True, scaling=0.1) is not None


def test_none_where_no_kernel_gives_it(monkeypatch):
    x = torch.randn(1, 2, 5, 16)
    assert lse.attention_with_lse(x, x, x, causal=True, scaling=1.0) is None  # a CPU has none
    monkeypatch.setitem(lse.KERNELS, "cpu", flash_cpu)
    # after cached tokens "causal" would mean something else to the kernel
    assert lse.attention_with_lse(x[:, :, 3:], x, x, causal=True, scaling=1.0) is None


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_model_answers_the_same(name, open_session, monkeypatch):
    family, settings = SCHEDULES[name]
    media = {"images": [picture(200, 150, 2)]}
    if family not in IMAGES_ONLY:
        media["videos"] = [clip(3, 60, 60)]

    def answer():
        session = open_session(family, *settings)
        session.features.clear()
        return session.ask("What?", **media, logits=True)

    plain = answer()
    used = []

    def checked(query, key, *, lse, **options):
        """Scores from the log-sum-exp against those without it: ranks alone would hide an error."""
        scores = received_attention(query, key, **options, lse=lse)
        if lse is not None:
            used.append(lse)
            torch.testing.assert_close(
                scores, received_attention(query, key, **options), atol=1e-5, rtol=1e-4
            )
        return scores

    monkeypatch.setitem(lse.KERNELS, "cpu", flash_cpu)
    for module in (tower_pass, decoder_merge):
        monkeypatch.setattr(module, "received_attention", checked)
    reused = answer()
    session = open_session(family, *settings)
    merging = session.schedules["image"].tower.layers
    decoder_points = dict(session.schedules["image"].decoder)
    # a mask, as of windows with empty cells, leaves no log-sum-exp
    full = [layer for layer in merging if layer in getattr(session.family, "full_attention", merging)]
    assert len(used) >= len(full) + len(decoder_points)
    torch.testing.assert_close(reused.logits, plain.logits, **FLOAT32)
    assert reused.token_ids == plain.token_ids
    assert reused.usage == plain.usage
