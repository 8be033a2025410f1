"""Everything aligned with tokens follows a merge as its field says."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from illava_cli.models.schedule import TowerPlan
from illava_cli.models.survivors import Survivors, thinned
from illava_cli.models.tokens import Tokens, aligned, per_row
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from illava_cli.reduction import Assignment, Merge


@dataclass(frozen=True)
class Cells(Tokens):
    cell: Tensor = aligned("keep")


@dataclass(frozen=True)
class Riding(Tokens):
    features: Tensor = aligned("apply")
    place: Tensor = aligned("keep")
    sizes: Tensor = aligned("total")
    rope: tuple[Tensor, Tensor] = aligned("keep")
    taps: dict[int, Tensor] = aligned("apply")
    absent: Tensor | None = aligned("keep", default=None)
    within: Cells | None = aligned("itself", default=None)
    merges: dict[int, Merge] = per_row(default_factory=dict)
    name: str = ""


def riding(rows=2, tokens=6):
    features = torch.randn(rows, tokens, 4, dtype=torch.float64)
    place = torch.arange(tokens).expand(rows, tokens)
    rope = (torch.randn(rows, tokens, 2, 3), torch.randn(rows, tokens, 2, 3))
    return Riding(
        features,
        place,
        torch.ones(rows, tokens),
        rope,
        {3: features * 2},
        within=Cells(place * 10),
        merges={1: Merge.identity(rows, 2 * tokens)},
        name="x",
    )


def merge_of(rows=2):
    """Token 1 joins 4 by halves, token 2 is dropped."""
    target = torch.tensor([0, 4, -1, 3, 4, 5]).expand(rows, -1)
    weight = torch.tensor([1.0, 0.5, 1.0, 1.0, 0.5, 1.0]).expand(rows, -1)
    return Merge.from_assignment(Assignment(target, weight), 4)


def test_each_field_follows_as_declared():
    before = riding()
    after = before.after(merge_of())
    joined = (before.features[:, 1] + before.features[:, 4]) / 2
    torch.testing.assert_close(after.features[:, 2], joined)
    torch.testing.assert_close(after.taps[3][:, 2], joined * 2)
    assert after.place.tolist() == [[0, 3, 4, 5]] * 2
    assert after.sizes.tolist() == [[1, 1, 2, 1]] * 2
    for now, was in zip(after.rope, before.rope, strict=True):
        assert torch.equal(now, was[:, [0, 3, 4, 5]])
    assert after.absent is None
    assert after.within.cell.tolist() == [[0, 30, 40, 50]] * 2
    assert after.merges[1] is before.merges[1]
    assert after.name == "x"


def test_tokens_taken_in_an_order():
    taken = riding().take(torch.tensor([[4, 0], [1, 1]]))
    assert taken.place.tolist() == [[4, 0], [1, 1]]
    assert taken.within.cell.tolist() == [[40, 0], [10, 10]]
    assert taken.features.shape == taken.taps[3].shape == (2, 2, 4)


def test_rows_put_together_again_are_the_whole():
    whole = riding(5)
    joined = Riding.cat([whole.rows(slice(0, 2)), whole.rows(slice(2, 5))])
    for name in ("features", "place", "sizes"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    assert torch.equal(joined.rope[1], whole.rope[1])
    assert torch.equal(joined.taps[3], whole.taps[3])
    assert joined.absent is None
    assert torch.equal(joined.within.cell, whole.within.cell)
    assert torch.equal(joined.merges[1].anchor, whole.merges[1].anchor)
    assert len(whole.rows(slice(0, 2)).merges[1].slot) == 2


def test_an_unknown_way_to_follow_is_no_field():
    with pytest.raises(KeyError):
        aligned("append")


def test_further_features_ride_from_the_tower_to_the_decoder():
    """A tap of an earlier layer is merged with the tokens that it belongs to, in the tower and behind it."""
    values = torch.arange(12.0).view(2, 6, 1)
    run = TowerPass(
        replace(TowerTokens.all(2, 6, torch.device("cpu")), taps={1: values}), TowerPlan({0: 2}, scored=1)
    )
    run.note(0, torch.arange(6.0).expand(2, 6))
    run.tokens = run.tokens.after(run.decide(0))
    weights = torch.tensor([3.0, 2.0, 1.0]) / 6  # the three least attended become one
    joined = (values[:, :3, 0] * weights).sum(1)
    assert run.tokens.taps[1][:, 0, 0].tolist() == pytest.approx(joined.tolist())
    assert torch.equal(run.tokens.taps[1][:, 1:], values[:, 3:])
    survivors = thinned(
        Survivors.of(torch.zeros(2, 4, 8), run), "attention-prune", 0.5, layer=2
    )  # the last scores: those of layer 0, in order
    assert torch.equal(survivors.taps[1], values[:, 4:])
    assert survivors.features.shape == (2, 2, 8)
