"""What a search is for, and which of two schedules serves it better."""

import pytest

from illava_cli.errors import UsageError
from illava_cli.tuning.target import Figures, Target


def figures(speed, same, kl=0.1, change=None):
    accuracy = None if change is None else (change, change + 0.02)
    return Figures(speed, (same, same + 0.05), kl, accuracy)


@pytest.mark.parametrize(
    ("text", "figure", "bound", "shown"),
    [
        ("speed=2x", "speed", 2.0, "speed=2x"),
        ("speed=1.5", "speed", 1.5, "speed=1.5x"),
        ("agreement=98%", "agreement", 0.98, "agreement=98%"),
        ("accuracy=-0.5", "accuracy", -0.005, "accuracy=-0.5"),
        (" accuracy = 0 ", "accuracy", 0.0, "accuracy=0"),
    ],
)
def test_a_target_is_read_and_shown(text, figure, bound, shown):
    target = Target.parse(text)
    assert (target.figure, target.bound) == (figure, pytest.approx(bound))
    assert str(target) == shown


@pytest.mark.parametrize(
    "text",
    ["", "speed", "speed=", "speed=fast", "speed=0.5", "speed=nan", "speed=inf", "speed=2%", "agreement=0",
     "agreement=101%", "agreement=0.98", "agreement=98x", "accuracy=1", "accuracy=-101", "accuracy=-1%",
     "memory=2x"],
)  # fmt: skip
def test_other_targets_are_refused(text):
    with pytest.raises(UsageError, match=r"expected speed=2x, agreement=98% or accuracy=-0\.5"):
        Target.parse(text)


def ranked(target, *found):
    return sorted(found, key=Target.parse(target).rank)


def test_of_those_fast_enough_the_one_that_loses_least():
    slow, good, bad = figures(1.9, 1.0, 0.0), figures(2.0, 0.97), figures(3.0, 0.9)
    assert ranked("speed=2x", slow, bad, good) == [good, bad, slow]
    same = figures(2.5, 0.97, 0.05)  # as many answers, less divergence
    assert ranked("speed=2x", good, same) == [same, good]


def test_of_those_that_agree_enough_the_fastest():
    slow, fast, bad = figures(1.5, 0.99), figures(2.0, 0.98), figures(9.0, 0.9)
    assert ranked("agreement=98%", bad, slow, fast) == [fast, slow, bad]
    assert Target.parse("agreement=98%").may_be_kept(figures(1, 0.94))
    assert not Target.parse("agreement=98%").may_be_kept(figures(1, 0.92))


def test_accuracy_counts_right_answers_where_they_are_known():
    lost, kept = figures(3.0, 0.99, change=-0.03), figures(2.0, 0.90, change=0.0)
    assert ranked("accuracy=-0.5", lost, kept) == [kept, lost]
    assert ranked("speed=2x", lost, kept) == [kept, lost]
    assert not Target.parse("accuracy=0").kept(figures(2.0, 1.0))  # nobody knows


def test_a_loss_that_chance_explains_is_told_apart_by_divergence():
    near, far = figures(2.0, 0.98, 0.01, change=-0.01), figures(2.0, 0.98, 0.05, change=0.01)
    assert ranked("speed=2x", far, near) == [near, far]
    certain = figures(2.0, 0.98, 0.001, change=-0.03)
    assert ranked("speed=2x", certain, far, near) == [near, far, certain]
