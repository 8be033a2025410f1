"""Percentiles, throughput, and what is said of them."""

import statistics

import numpy as np
import pytest

from illava_cli.bench.serving import figures
from illava_cli.bench.serving.driving import Window
from illava_cli.bench.serving.loads import Load
from illava_cli.bench.serving.samples import Sample

USAGE = {
    "prompt_tokens": 300,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 100},
    "visual_tokens": {"unmerged": 729, "saved": 500, "reused": 1},
}


def sample(due=0.0, first=1.0, last=3.0, **about):
    made = Sample(due, media=1, first=first, last=last, finish="stop", usage=USAGE)
    for name, value in about.items():
        setattr(made, name, value)
    return made


def window(*samples, seconds=10.0, **about):
    return Window(list(samples), began=100.0, ended=100.0 + seconds, **about)


def result(load=Load("clients", 1), server="auto", *samples, **about):
    return figures.summary(server, load, window(*(samples or [sample()]), **about), 1)


@pytest.mark.parametrize("count", [1, 2, 3, 50, 64, 333])
def test_percentiles_are_numpys_and_the_standard_librarys(count):
    values = np.random.default_rng(count).exponential(2.0, count).tolist()
    found = figures.distribution([None, *values, None])
    assert found.keys() == {"p50", "p95", "p99", "mean", "max"}
    for point in (50, 95, 99):
        assert found[f"p{point}"] == pytest.approx(np.percentile(values, point), rel=1e-12)
        if count > 1:
            cuts = statistics.quantiles(values, n=100, method="inclusive")
            assert found[f"p{point}"] == pytest.approx(cuts[point - 1], rel=1e-9)
    assert found["mean"] == pytest.approx(statistics.fmean(values))
    assert found["max"] == max(values)


def test_of_nothing_there_is_no_distribution():
    assert figures.distribution([None]) is None


def test_times_run_from_when_a_request_was_due():
    one = sample(due=2.0, first=2.5, last=4.5)
    assert (one.first_s, one.whole_s, one.per_token_s) == (0.5, 2.5, 0.5)  # four tokens after the first
    failed = sample(error="timeout")
    assert (failed.first_s, failed.whole_s, failed.per_token_s) == (None, None, None)


def test_an_answer_of_one_token_has_no_time_between_tokens():
    assert sample(usage={"completion_tokens": 1}).per_token_s is None


def test_pieces_count_where_the_server_counts_no_tokens():
    assert sample(usage={}, pieces=["a", " b", " c"]).tokens == 3


def test_summary():
    failed = sample(error="status 429", message="later")
    found = figures.summary(
        "auto",
        Load("clients", 2),
        window(sample(), sample(first=2.0, last=8.0), failed, client_s=2.0, server_s=15.0, lags=[0.0, 0.01]),
        1,
    )
    assert (found["requests"], found["failed"], found["stopped"]) == (3, 1, False)
    assert found["requests_per_s"] == 0.2  # those that were answered
    assert (found["tokens_per_s"], found["visual_tokens_per_s"], found["saved_tokens_per_s"]) == (
        1,
        145.8,
        100,
    )
    assert found["seconds"]["ttft"]["p50"] == 1.5
    assert found["seconds"]["per_token"]["mean"] == 1.0
    assert found["tokens"] == {
        "prompt": 600,
        "cached": 200,
        "visual_unmerged": 1458,
        "visual_saved": 1000,
        "completion": 10,
        "completion_each": {"min": 5, "max": 5, "mean": 5},
    }
    assert found["media"] == {"sent": 2, "reused": 2}
    assert found["errors"] == [{"kind": "status 429", "count": 1, "message": "later"}]
    assert found["client"]["cores"] == 0.2
    assert found["server_cores"] == 1.5
    assert "turns" not in found


def test_a_load_without_an_answer_has_a_summary():
    found = result(Load("rate", 2.0), "auto", sample(error="timeout", message="late"))
    assert found["requests_per_s"] == 0
    assert found["seconds"] == {"ttft": None, "per_token": None, "whole": None}
    assert found["tokens"]["completion_each"] is None


def test_turns_are_told_apart():
    samples = [sample(turn=0, usage={}), sample(turn=1, first=0.5), sample(turn=0, usage={}, first=2.0)]
    first, second = figures.summary("auto", Load("clients", 1), window(*samples), 2)["turns"]
    assert (first["requests"], first["cached"], first["seconds"]["ttft"]["p50"]) == (2, 0, 1.5)
    assert (second["requests"], second["cached"], second["seconds"]["ttft"]["p50"]) == (1, 100, 0.5)


def test_failures_are_told_by_kind_the_most_frequent_first():
    kinds = ["timeout", "status 429", "status 429", None]
    found = figures.errors([sample(error=kind, message=f"{n}") for n, kind in enumerate(kinds)])
    assert [(one["kind"], one["count"], one["message"]) for one in found] == [
        ("status 429", 2, "1"),
        ("timeout", 1, "0"),
    ]


def test_servers_are_compared_at_equal_load_with_off_where_it_is():
    slow = result(Load("clients", 4), "off", sample(first=2.0))
    fast = result(Load("clients", 4), "auto", sample(), sample())
    other = result(Load("rate", 4), "auto", sample())
    (found,) = figures.comparison([fast, other, slow])
    assert (found["server"], found["over"], found["load"]["label"]) == ("auto", "off", "4 clients")
    assert (found["requests_per_s"], found["ttft_p50"], found["ttft_p95"]) == (2.0, 2.0, 2.0)
    assert figures.comparison([]) == []


def test_gain_is_over_one_client_of_the_same_server():
    alone, four = result(), result(Load("clients", 4), "auto", sample(), sample(), sample())
    rate, foreign = result(Load("rate", 1)), result(Load("clients", 4), "off")
    results = [alone, four, rate, foreign]
    gains = [figures.gain(one, results) for one in results]
    assert gains == [1.0, pytest.approx(3.0), None, None]


def test_a_client_that_may_have_held_back_is_told():
    assert figures.doubts(result()) == []
    (busy,) = figures.doubts(result(client_s=9.0))
    assert "0.90 cores" in busy
    (late,) = figures.doubts(result(lags=[0.05] * 10))
    assert "50 ms late" in late
    (unmade,) = figures.doubts(result(late=3))
    assert "3 questions" in unmade


def test_fewer_requests_than_clients_are_no_throughput():
    (few,) = figures.doubts(result(Load("clients", 2)))
    assert "1 requests for so many clients" in few
    assert figures.doubts(result(Load("clients", 2), "auto", sample(), sample())) == []
    assert figures.doubts(result(Load("rate", 2))) == []
