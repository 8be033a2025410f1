"""Successive halving: how many questions, and who goes on."""

import itertools
import random

import pytest

from illava_cli.tuning.halving import LAST, layers, rounds, survivors
from illava_cli.tuning.target import Figures, Target

SPEED, AGREEMENT = Target.parse("speed=2x"), Target.parse("agreement=95%")


def schedule(speed, same, margin=0.02):
    return Figures(speed, (same, min(1.0, same + margin)), 1 - same)


def drawn(count, seed=0):
    rng = random.Random(seed)
    return {str(n): schedule(rng.uniform(1, 4), rng.uniform(0.6, 1)) for n in range(count)}


@pytest.mark.parametrize(
    ("questions", "count", "least", "expected"),
    [
        (400, 48, 16, [44, 133, 400]),
        (400, 4, 16, [400]),  # so few are all asked everything
        (40, 48, 16, [40]),
        (60, 48, 16, [20, 60]),
        (10**6, 12, 1, [333333, 10**6]),
    ],
)
def test_rounds(questions, count, least, expected):
    assert rounds(questions, count, least) == expected


def test_a_third_goes_on_and_the_frontier_first():
    figures = {name: one for name, one in drawn(90).items() if SPEED.kept(one)}
    left = survivors(figures, SPEED)
    assert len(left) == -(-len(figures) // 3)
    depth = layers(figures)
    assert max(depth[name] for name in left) <= min(depth[name] for name in figures if name not in left)


def test_the_best_by_the_target_comes_first():
    for seed in range(20):
        figures = drawn(30, seed)
        best = min(figures.values(), key=SPEED.rank)
        assert figures[survivors(figures, SPEED)[0]] == best


def test_who_cannot_keep_the_bound_leaves():
    figures = {
        "slow": schedule(1.2, 0.99),
        "fast": schedule(2, 0.95),
        "maybe": schedule(3, 0.94),
        "bad": schedule(9, 0.5),
    }
    assert survivors(figures, AGREEMENT) == ["fast", "slow", "maybe"]


def test_where_none_keeps_it_the_nearest_go_on():
    figures = {"bad": schedule(9, 0.5), "worse": schedule(9, 0.4)}
    assert survivors(figures, AGREEMENT) == ["bad", "worse"]


def test_few_are_never_fewer_than_worth_a_check():
    assert len(survivors(drawn(5), SPEED)) == LAST


def test_layers_are_those_of_a_slow_reference():
    figures = drawn(40, 3)

    def dominated(name, among):
        a = figures[name]
        return any(
            b.speed >= a.speed and b.loss <= a.loss and (b.speed, b.loss) != (a.speed, a.loss)
            for b in (figures[other] for other in among)
        )

    left, found = set(figures), {}
    for depth in itertools.count():
        if not left:
            break
        front = {name for name in left if not dominated(name, left)}
        found |= dict.fromkeys(front, depth)
        left -= front
    assert layers(figures) == found
