"""Intervals and divergences against values worked out by hand."""

import math
import random

import pytest
import torch

from illava_cli.evals.statistics import Z, divergence, paired_difference, share


def test_share_of_eight_in_ten():
    # centre (0.8 + 3.8415/20) / 1.38415 = 0.71674, half 1.95996/1.38415 * sqrt(0.016 + 3.8415/400) = 0.22658
    found = share(8, 10)
    assert (found.n, found.hits, found.value) == (10, 8, 0.8)
    assert (found.low, found.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_a_share_of_none_or_all_still_has_an_interval():
    # at the ends the other bound is z^2 / (n + z^2) = 3.8415 / 13.8415
    assert (share(0, 10).low, share(0, 10).high) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert (share(10, 10).low, share(10, 10).high) == pytest.approx((0.72247, 1.0), abs=1e-5)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_no_share(hits, n):
    with pytest.raises(ValueError, match="no share"):
        share(hits, n)


def test_difference_of_ten_pairs():
    reference = [True] * 6 + [False] * 4
    ours = [True] * 4 + [False] * 2 + [True] + [False] * 3
    found = paired_difference(reference, ours)
    assert (found.n, found.lost, found.gained, found.value) == (10, 2, 1, -0.1)
    # centre -1/12, half 1.95996 * sqrt((4/12 - 1/144) / 12) = 0.32324
    assert (found.low, found.high) == pytest.approx((-0.40657, 0.23991), abs=1e-5)


def test_where_nothing_changed_the_interval_is_narrow_and_not_empty():
    found = paired_difference([True, False] * 50, [True, False] * 50)
    assert (found.value, found.low, found.high) == pytest.approx((0, -Z / 102, Z / 102))


def test_pairing_narrows_the_interval():
    answers = [True] * 80 + [False] * 20
    paired = paired_difference(answers, [False, *answers[1:]])
    shuffled = paired_difference(answers, [False, *answers[1:]][::-1])
    assert paired.value == shuffled.value == -0.01
    assert paired.high - paired.low < 0.3 * (shuffled.high - shuffled.low)


def test_a_difference_stays_within_one():
    assert paired_difference([True], [False]).low == -1
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([True], [])


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    rng = random.Random(0)
    lost, gained, n, rounds = 0.08, 0.03, 150, 1500
    hits = 0
    for _ in range(rounds):
        draws = [rng.random() for _ in range(n)]
        before = [d < 0.5 or d < 0.5 + lost for d in draws]  # right before: the first 0.58
        after = [d < 0.5 or d > 1 - gained for d in draws]
        found = paired_difference(before, after)
        hits += found.low <= gained - lost <= found.high
    assert 0.93 <= hits / rounds <= 0.975


def test_divergence():
    # p = (1/2, 1/2), q = (1/4, 3/4): ln(2)/2 + ln(2/3)/2
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert divergence(p, q) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-7)
    assert divergence(p + 3, q - 2) == pytest.approx(divergence(p, q), abs=1e-7)  # logits have no scale
    assert divergence(p, p) == 0


def test_divergence_is_taken_in_float64():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    moved = logits + 1e-4 * torch.randn(1000, generator=torch.Generator().manual_seed(1))
    exact = divergence(logits.double(), moved.double())
    assert 0 < exact < 1e-7
    assert divergence(logits, moved) == pytest.approx(exact, rel=1e-6)
    assert divergence(logits.bfloat16(), logits.bfloat16()) == 0


def test_what_cannot_come_adds_nothing():
    p, q = torch.tensor([0.0, -math.inf]), torch.tensor([0.0, 0.0])
    assert divergence(p, q) == pytest.approx(math.log(2))
    assert divergence(q, p) == math.inf


def test_logits_that_are_no_numbers_diverge_by_none():
    broken, sound = torch.tensor([math.nan, 0.0]), torch.tensor([0.0, 0.0])
    assert math.isnan(divergence(broken, sound))
    assert math.isnan(divergence(sound, broken))
