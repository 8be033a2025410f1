"""Windows of a tower: where tokens stand, what attention within them gives, and scores across them."""

from functools import partial

import pytest
import torch
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention
from transformers.vision_utils import get_vision_window_index

from illava_cli.models.attention import install_tap
from illava_cli.models.backends import BACKENDS
from illava_cli.models.families.packed import PACKED, packed_attention
from illava_cli.models.schedule import TowerPlan
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from illava_cli.models.windows import Windows, window_cells
from illava_cli.reduction import Merge
from illava_cli.reduction.merge import Assignment

GRIDS = [(4, 4), (8, 4), (5, 7), (1, 1), (3, 9), (12, 2)]


@pytest.mark.parametrize("grid", GRIDS)
def test_cells_are_in_the_order_of_transformers(grid):
    rows, columns = grid
    index, borders = get_vision_window_index(torch.tensor([[1, 2 * rows, 2 * columns]]), 2, 112, 14)
    cell = window_cells(grid, 4)
    assert cell.argsort().tolist() == index.tolist()
    sizes = (cell // 16).unique(return_counts=True)[1]
    assert (sizes * 4).tolist() == borders.diff().tolist()


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def thinned(grid, segments=2, group=4, left=0.5, seed=0):
    """Windows of which some tokens have left, others in each segment."""
    windows = Windows.of(grid, 4, segments, group, torch.device("cpu"), torch.float64)
    tokens = windows.cell.shape[1]
    removed = int(tokens * (1 - left))
    order = torch.rand(segments, tokens, generator=torch.Generator().manual_seed(seed)).argsort(1)
    target = torch.arange(tokens).repeat(segments, 1).scatter(1, order[:, :removed], -1)
    merge = Merge.from_assignment(Assignment(target, torch.ones(target.shape)), tokens - removed)
    return windows.after(merge) if removed else windows


CASES = [(grid, left) for grid in GRIDS for left in (1.0, 0.5)] + [((8, 8), 0.1)]


@pytest.mark.parametrize(("grid", "left"), CASES)
def test_unpacked_and_packed_again(grid, left):
    windows = thinned(grid, left=left)
    patches = windows.cell.numel() * 4
    x = noise(1, 3, patches, 5)
    unpacked = windows.unpack(x)
    assert unpacked.shape == (2 * windows.count, 3, 64, 5)
    assert torch.equal(windows.pack(unpacked.transpose(1, 2)), x.transpose(1, 2))
    assert int(windows.valid.sum()) == patches
    assert unpacked.transpose(1, 2)[~windows.valid].abs().sum() == 0
    assert windows.ragged or windows.valid.all()
    assert (windows.mask is None) != windows.ragged
    if windows.ragged:
        assert windows.mask.dtype == torch.float64
        assert torch.equal(windows.mask[:, 0, 0] == 0, windows.valid)


def by_loop(windows, query, key, value, include_self):
    """(1, N, H, D) and (B, N / B) scores, window by window."""
    out = torch.empty_like(value[0].transpose(0, 1))
    received = torch.empty(query.shape[2], dtype=torch.float64)
    window = (windows.index // windows.size).repeat_interleave(windows.group)
    for number in window.unique():
        mine = (window == number).nonzero().squeeze(1)
        share = torch.softmax(query[0, :, mine] @ key[0, :, mine].transpose(1, 2) * 0.3, -1)  # (H, n, n)
        out[mine] = (share @ value[0, :, mine]).transpose(0, 1)
        share, n = share.mean(0), len(mine)
        own = share.diagonal()
        received[mine] = share.sum(0) if include_self else (share.sum(0) - own) * n / (n - 1)
    return out[None], received.view(len(windows.cell), -1, windows.group).mean(-1)


def by_length(module, query, key, value, attention_mask, *, cu_seq_lens_q, cu_seq_lens_k, scaling, **kwargs):
    """What FlashAttention does with packed sequences."""
    assert attention_mask is None
    assert kwargs["max_length_q"] == kwargs["max_length_k"] >= cu_seq_lens_q.diff().max()
    assert cu_seq_lens_q is cu_seq_lens_k
    parts = zip(*(x.split(cu_seq_lens_q.diff().tolist(), dim=2) for x in (query, key, value)), strict=True)
    out = [torch.softmax(q @ k.transpose(2, 3) * scaling, -1) @ v for q, k, v in parts]
    return torch.cat(out, dim=2).transpose(1, 2), None


UNTOLD = dict.fromkeys(("max_length_q", "max_length_k", "cu_seq_lens_q", "cu_seq_lens_k"))


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("backend", ["sdpa", "eager", "flash_attention_2"])
@pytest.mark.parametrize(("grid", "left"), CASES)
def test_attention_and_scores(grid, left, backend, include_self):
    windows = thinned(grid, left=left)
    segments, tokens = windows.cell.shape
    config = Qwen2_5_VLConfig(vision_config={"hidden_size": 16, "num_heads": 2}).vision_config
    config._attn_implementation = "eager" if backend == "eager" else "sdpa"
    attention = Qwen2_5_VLVisionAttention(config)
    install_tap(attention, PACKED)
    if backend == "flash_attention_2" and windows.ragged:
        attention.tap.run, attention.tap.backend = by_length, BACKENDS[backend]
    everything = TowerTokens.all(segments, tokens, torch.device("cpu"))
    run = TowerPass(everything, TowerPlan(include_self=include_self), group=4)
    query, key, value = noise(3, 1, 2, segments * tokens * 4, 8).unbind(0)
    with attention.tap.recording(partial(run.score, 0, windows=windows)) as tap:
        out, _ = packed_attention(attention, query, key, value, None, **UNTOLD, windows=windows, scaling=0.3)
    expected, scores = by_loop(windows, query, key, value, include_self)
    # transformers' eager attention takes its softmax in float32
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6 if backend == "eager" else 1e-12)
    torch.testing.assert_close(tap.scores, scores, rtol=0, atol=1e-12)
    if include_self:  # a window has as much attention to give as it has patches
        assert float(scores.sum()) == pytest.approx(segments * tokens)
