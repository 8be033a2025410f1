"""Every method against loops over tokens, and what all of them promise."""

import sys

import pytest
import torch

import illava_cli.reduction.candidates as candidates
from illava_cli.reduction import METHODS, Candidates, Merge, decide
from tests.reduction import slow

kmeans_module = sys.modules["illava_cli.reduction.kmeans"]  # the package has a function of that name
DECIDING = [name for name, method in METHODS.items() if method.decide]  # test_guided.py has the others
REFERENCED = [name for name in DECIDING if name != "random"]  # random has only promises
DROPPING = {"attention-prune", "fastv", "random", "novelty", "diversity"}


def draw(seed, batch, tokens):
    rng = torch.Generator().manual_seed(seed)
    wide = {"generator": rng, "dtype": torch.float64}
    keys = torch.randn(batch, tokens, 5, **wide)
    keys[0, tokens // 2 :] = keys[0, : tokens - tokens // 2].clone()  # the same key twice
    scores = torch.rand(batch, tokens, **wide)
    scores[-1] = scores[-1].mul(6).round()  # ties
    sizes = torch.randint(1, 5, (batch, tokens), generator=rng).double()
    x = torch.randn(batch, tokens, 3, **wide)
    return rng, keys + 1e-3 * torch.randn(batch, tokens, 5, **wide), scores, sizes, x


def test_every_method_has_a_reference():
    assert set(slow.METHODS) == set(REFERENCED)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("method", REFERENCED)
def test_a_method_equals_its_loop(method, seed, padded):
    tokens, before = [3, 7, 12, 16, 21, 25, 30, 33][seed], seed // 2 % 2
    rng, keys, scores, sizes, x = draw(seed, 3, tokens)
    r = int(torch.randint(0, tokens, (1,), generator=rng))
    padding = torch.rand(3, tokens, generator=rng) < 0.3 if padded else None
    known = Candidates.of(scores, [(tokens, r)], keys=keys, sizes=sizes, before=before)
    decision = decide(method, known, padding)
    merge = Merge.from_assignment(decision, tokens - r)
    out = merge.apply(x)
    for row in range(3):
        marks = None if padding is None else padding[row].tolist()
        found = slow.members(method, keys[row], scores[row], sizes[row], r, marks, before)
        assert merge.anchor[row].tolist() == sorted(found)
        torch.testing.assert_close(out[row], slow.reduced(x[row], found), atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", REFERENCED)
def test_rows_of_different_length_and_budget(method, seed):
    lengths, budgets = [9, 4, 25, 1, 5], [3, 0, 11, 0, 4]
    _, keys, scores, sizes, x = draw(seed, 5, 25)
    valid = torch.arange(25) < torch.tensor(lengths)[:, None]
    candidates = Candidates.of(
        scores,
        list(zip(lengths, budgets, strict=True)),
        counts=torch.tensor(budgets),
        valid=valid,
        keys=keys,
        sizes=sizes,
    )
    kept = [n - r for n, r in zip(lengths, budgets, strict=True)]
    merge = Merge.from_assignment(decide(method, candidates), max(kept), valid=valid)
    out = merge.apply(x)
    for row, (n, r) in enumerate(zip(lengths, budgets, strict=True)):
        found = slow.members(method, keys[row, :n], scores[row, :n], sizes[row, :n], r)
        torch.testing.assert_close(out[row, : n - r], slow.reduced(x[row], found), atol=1e-9, rtol=0)
        assert not out[row, n - r :].any()


@pytest.mark.parametrize("method", DECIDING)
def test_nothing_removed_is_the_identity(method):
    _, keys, scores, _, x = draw(0, 2, 9)
    merge = Merge.from_assignment(decide(method, Candidates.of(scores, [(9, 0)], keys=keys)), 9)
    assert torch.equal(merge.apply(x), x)
    assert torch.equal(merge.keep(x), x)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("r", [1, 13, 30, 39])
@pytest.mark.parametrize("method", DECIDING)
def test_budget_weights_and_sizes(method, r, padded):
    """Exactly r leave; a slot's weights sum to 1; what merges conserves sizes, what drops loses r of them."""
    rng, keys, scores, _, _ = draw(r, 4, 40)
    padding = torch.rand(4, 40, generator=rng) < 0.2 if padded else None
    decision = decide(method, Candidates.of(scores, [(40, r)], keys=keys), padding)
    assert torch.equal((decision.target == torch.arange(40)).sum(1), torch.full((4,), 40 - r))
    merge = Merge.from_assignment(decision, 40 - r)
    sums = merge.weight.new_zeros(4, 40 - r).scatter_add(1, merge.slot.clamp(min=0), merge.weight)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert (merge.weight[merge.slot < 0] == 0).all()
    gone = padding.sum(1).clamp(max=r) if padded else torch.zeros(4, dtype=torch.long)
    if method in DROPPING:
        gone = torch.full((4,), r)
    sizes = merge.total(torch.ones(4, 40))
    torch.testing.assert_close(sizes.sum(1), 40.0 - gone)


@pytest.mark.parametrize("method", DECIDING)
def test_a_row_is_the_same_alone_and_in_a_batch(method):
    _, keys, scores, _, _ = draw(5, 3, 50)
    together = decide(method, Candidates.of(scores, [(50, 20)], keys=keys)).target
    alone = decide(method, Candidates.of(scores[1:2], [(50, 20)], keys=keys[1:2])).target
    assert torch.equal(together[1:2], alone)


def test_what_all_keys_share_does_not_drown_kmeans():
    """A bias of the key projection moves all keys together: in float32 the clusters stay those of float64."""
    rng = torch.Generator().manual_seed(0)
    keys = torch.randn(1, 300, 16, generator=rng) + 300 * torch.randn(16, generator=rng)
    scores = torch.rand(1, 300, generator=rng)
    narrow, wide = (
        decide("kmeans", Candidates.of(scores.to(t), [(300, 200)], keys=keys.to(t))).target
        for t in (torch.float32, torch.float64)
    )
    assert (narrow != wide).sum() <= 3


@pytest.mark.parametrize("tokens", [2, 3, 8, 9])
@pytest.mark.parametrize("before", [0, 1])
def test_tome_s_halves_are_counted_with_the_class_token(before, tokens):
    """Its code takes x[:, ::2] and x[:, 1::2] of the whole sequence; the class token's cosines are -inf."""
    keys = torch.randn(1, before + tokens, 6, generator=torch.Generator().manual_seed(tokens))
    a, b = (
        half.tolist() for half in (torch.arange(before + tokens)[::2], torch.arange(before + tokens)[1::2])
    )
    units = torch.nn.functional.normalize(keys[0], dim=-1)
    cosine = units[a] @ units[b].T
    cosine[[i for i, token in enumerate(a) if token < before]] = -torch.inf
    (closest, partner), r = cosine.max(-1), tokens // 2
    joins = {a[i] - before: b[partner[i]] - before for i in closest.argsort(descending=True)[:r]}

    scores = torch.rand(1, tokens)
    known = Candidates.of(scores, [(tokens, r)], keys=keys[:, before:], before=before)
    target = decide("bipartite", known).target[0].tolist()
    assert {i: target[i] for i in range(tokens) if target[i] != i} == joins


@pytest.mark.parametrize("method", ["bipartite", "kmeans", "assign"])
def test_blocks_change_nothing(method, monkeypatch):
    _, keys, scores, sizes, _ = draw(1, 3, 60)
    whole = decide(method, Candidates.of(scores, [(60, 25)], keys=keys, sizes=sizes))
    for module in (candidates, kmeans_module):
        monkeypatch.setattr(module, "CHUNK_BYTES", 3 * 60 * 8 * 7)
    parts = decide(method, Candidates.of(scores, [(60, 25)], keys=keys, sizes=sizes))
    assert torch.equal(whole.target, parts.target)


def test_random_knows_nothing_of_attention_or_place():
    """Of 400 rows each tenth by score loses about what all lose, 0.4, and no stretch of places all."""

    def leaving(scores):
        return decide("random", Candidates.of(scores, [(100, 40)])).target < 0

    scores = torch.rand(400, 100, generator=torch.Generator().manual_seed(0))
    gone = leaving(scores)
    assert torch.equal(gone[0], gone[1])  # places alone decide
    by_score = gone.gather(1, scores.argsort(1)).float().view(400, 10, 10).mean((0, 2))
    assert (by_score - 0.4).abs().max() < 0.04
    assert gone[0].float().diff().abs().sum() > 20
    by_place = gone[0].float().view(10, 10).mean(1)
    assert (by_place - 0.4).abs().max() <= 0.31
