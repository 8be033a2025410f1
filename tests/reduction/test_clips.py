"""Methods that reduce a whole clip, against loops over tokens, and what all of them promise."""

import pytest
import torch

from illava_cli.reduction import Merge, candidates
from illava_cli.reduction.clips import CLIP_METHODS, ClipTokens, density
from illava_cli.reduction.clips.tokens import highest
from tests.reference import clips as slow

KINDS = ("noise", "static", "scenes", "moving", "drift")


def draw(seed, kind, frames, places, channels=6):
    """Features (F, P, C) and scores (F, P) in float64."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames, places, channels, generator=rng, dtype=torch.float64)
    scores = torch.rand(frames, places, generator=rng, dtype=torch.float64)
    if kind == "noise":
        return noise, scores
    if kind == "drift":
        return (noise * torch.tensor([1.0] + [0.2] * (frames - 1))[:, None, None]).cumsum(0), scores
    scene = torch.zeros(frames, dtype=torch.long)
    if kind != "static":
        scene = torch.randint(0, 2, (frames,), generator=rng).cumsum(0)
    features = noise[scene] + 0.02 * torch.randn(frames, places, channels, generator=rng, dtype=torch.float64)
    if kind == "moving":  # some places change all the time
        features[:, ::3] = noise[:, ::3]
    return features + 0.5, scores  # what all features have in common


def clip(seed, kind, frames, places, *, gaps=False, left=None):
    features, scores = draw(seed, kind, frames, places)
    rng = torch.Generator().manual_seed(seed + 100)
    valid = torch.rand(frames, places, generator=rng) < 0.7 if gaps else torch.ones(frames, places) > 0
    valid[0, 0] = True
    features[~valid] = 1e6  # whatever is there counts for nothing
    present = int(valid.sum())
    left = left or int(torch.randint(1, present + 1, (1,), generator=rng))
    return ClipTokens(features, valid, scores, present, min(left, present))


def check_equal(tokens, method):
    places = tokens.valid.shape[1]
    where = [(f, p) for f, row in enumerate(tokens.valid.tolist()) for p, there in enumerate(row) if there]
    features, scores = tokens.features.tolist(), tokens.scores.tolist()
    expected = slow.METHODS[method](
        {(f, p): features[f][p] for f, p in where}, {(f, p): scores[f][p] for f, p in where}, tokens.left
    )
    assignment = CLIP_METHODS[method](tokens)
    found = {}
    for token, (target, weight) in enumerate(zip(assignment.target[0], assignment.weight[0], strict=True)):
        if target >= 0:
            found.setdefault(divmod(int(target), places), {})[divmod(token, places)] = float(weight)
    assert sorted(found) == sorted(expected)
    for survivor, parts in expected.items():
        assert found[survivor] == pytest.approx(parts, abs=1e-9)


def test_every_method_has_a_reference():
    assert set(slow.METHODS) == set(CLIP_METHODS)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", CLIP_METHODS)
def test_a_method_equals_its_loop(method, kind, gaps):
    for seed, (frames, places) in enumerate([(1, 9), (2, 7), (5, 6), (9, 8), (12, 5), (4, 12)]):
        check_equal(clip(seed, kind, frames, places, gaps=gaps), method)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", sorted(CLIP_METHODS.keys() - {"holitom"}))  # whose loop tries all windows
def test_a_method_equals_its_loop_on_a_long_clip(method, kind):
    check_equal(clip(7, kind, 30, 4, gaps=True), method)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("kind", ["noise", "scenes", "still"])
@pytest.mark.parametrize("method", CLIP_METHODS)
def test_budget_and_weights(method, kind, gaps):
    """Exactly `left` remain, whatever the clip; a slot's weights sum to 1; what is no token is dropped."""
    for seed, (frames, places) in enumerate([(1, 1), (1, 6), (6, 1), (9, 5)]):
        whole = clip(seed, "static" if kind == "still" else kind, frames, places, gaps=gaps, left=10**6)
        if kind == "still":  # to the last bit, and all places alike too
            whole.features.copy_(torch.ones(6))
            whole.scores.fill_(0.25)
        for left in {1, frames // 2, frames, whole.present // 3, whole.present - 1, whole.present} - {0}:
            for dtype in (torch.float64, torch.bfloat16):
                tokens = ClipTokens(
                    whole.features.to(dtype), whole.valid, whole.scores.float(), whole.present, left
                )
                tokens = tokens if left <= whole.present else whole
                assignment = CLIP_METHODS[method](tokens)
                survives = assignment.target[0] == torch.arange(frames * places)
                assert int(survives.sum()) == tokens.left
                assert not survives[~whole.valid.flatten()].any()
                assert (assignment.target[0][~whole.valid.flatten()] == -1).all()
                merge = Merge.from_assignment(assignment, tokens.left, whole.valid.view(1, -1))
                sums = torch.zeros(tokens.left, dtype=merge.weight.dtype)
                sums.scatter_add_(0, merge.slot[0].clamp(min=0), merge.weight[0])
                torch.testing.assert_close(sums, torch.ones_like(sums))
                assert (merge.weight >= 0).all()
                if tokens.left == tokens.present:
                    assert torch.equal(assignment.target[0] >= 0, whole.valid.flatten())
                    assert (assignment.weight[0][survives] == 1).all()


@pytest.mark.parametrize("method", CLIP_METHODS)
def test_blocks_change_nothing(method, monkeypatch):
    tokens = clip(5, "scenes", 9, 10, gaps=True)
    whole = CLIP_METHODS[method](tokens)
    for module in (density, candidates):
        monkeypatch.setattr(module, "CHUNK_BYTES", 8 * 10 * 10 * 2)
    parts = CLIP_METHODS[method](tokens)
    assert torch.equal(whole.target, parts.target)
    torch.testing.assert_close(whole.weight, parts.weight)


def test_of_equals_the_lower_index_is_taken():
    ones, key = torch.ones(2, 3), torch.tensor([[0.0, 1, 0], [1, 1, 0]])
    assert highest(2, ones).flatten().tolist() == [True, True, False, False, False, False]
    assert highest(4, ones, key).flatten().tolist() == [True, True, False, True, True, False]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("method", CLIP_METHODS)
def test_no_method_waits_for_the_device(method, gaps):
    """Tensors on `meta` have no values: whoever asks for one fails."""
    tokens = clip(3, "noise", 6, 8, gaps=gaps, left=11)
    empty = (x.to("meta") for x in (tokens.features, tokens.valid, tokens.scores))
    assignment = CLIP_METHODS[method](ClipTokens(*empty, tokens.present, tokens.left))
    assert assignment.target.shape == assignment.weight.shape == (1, 48)
