"""Plots of accuracy show how sure it is, and do not make a cliff of one question."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("matplotlib")


def interval(value, half):
    return {"value": value, "low": value - half, "high": value + half}


def row(method, quality, tokens, difference=None):
    named = {"model": "tiny", "method": method, "variant": method, "answered": 26, "quality": quality}
    cost = {"visual_tokens": {"llm_kept": tokens}, "seconds": tokens / 100}
    return named | cost | {"accuracy": interval(quality, 0.1), "difference": difference}


@pytest.fixture
def drawn(monkeypatch):
    """The plots of a comparison of 26 questions, one of which a method gets wrong."""
    from illava_cli.evals import plot

    figures = []
    monkeypatch.setattr(plot, "save", lambda figure, path: figures.append(figure))
    rows = [row("off", 1.0, 100), row("random", 25 / 26, 30, interval(-1 / 26, 0.06))]
    plot.plot_comparison({"rows": rows}, Path("x.png"))
    return figures[0].axes


def test_one_question_is_a_small_step(drawn):
    for axes in drawn:
        low, high = axes.get_ylim()
        assert high - low >= 20 * 100 / 26
        assert (low, high) == pytest.approx((105 - 2000 / 26, 105))


def test_a_change_has_its_interval(drawn):
    for axes in drawn:
        whole, changed = axes.containers
        (bar,) = changed[2]
        assert bar.get_segments()[0][:, 1] == pytest.approx([100 * (25 / 26 - 0.06), 100 * (25 / 26 + 0.06)])
        (bar,) = whole[2]
        assert bar.get_segments()[0][:, 1] == pytest.approx([100, 100])  # compared with itself
