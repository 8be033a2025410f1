"""When requests come."""

import numpy as np
import pytest

from illava_cli.bench.serving.loads import Extent, Load, arrivals

MANY = Extent(4000, None, 0)


def test_arrivals_are_a_poisson_process():
    times = np.array(arrivals(8.0, MANY, 3))
    gaps = np.diff(times, prepend=0.0)
    assert len(times) == 4000
    assert (gaps > 0).all()
    # of exponential gaps mean and standard deviation are 1 / rate, and a share 1/e is longer than that
    assert gaps.mean() == pytest.approx(1 / 8, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 8, rel=0.05)
    assert (gaps > 1 / 8).mean() == pytest.approx(1 / np.e, rel=0.05)


def test_the_same_seed_is_the_same_arrivals_and_twice_the_rate_half_the_gaps():
    assert arrivals(2.0, MANY, [5, 0]) == arrivals(2.0, MANY, [5, 0])
    assert arrivals(2.0, MANY, [5, 0]) != arrivals(2.0, MANY, [5, 1])
    assert np.allclose(arrivals(4.0, MANY, 5), np.array(arrivals(2.0, MANY, 5)) / 2)


def test_arrivals_of_a_time_are_those_before_its_end():
    of_a_number = arrivals(5.0, MANY, 7)
    within = arrivals(5.0, Extent(None, 30.0, 0), 7)
    assert within == pytest.approx([time for time in of_a_number if time < 30])
    assert 100 < len(within) < 200


@pytest.mark.parametrize(
    ("load", "label"),
    [(Load("clients", 1), "1 client"), (Load("clients", 16), "16 clients"), (Load("rate", 2.5), "2.5/s")],
)
def test_labels(load, label):
    assert load.label == load.record()["label"] == label
