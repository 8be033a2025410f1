"""Accuracy over visual tokens and over time, as a picture: what a schedule costs and what it saves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from illava_cli.drawing import looks, save, side_by_side
from illava_cli.evals.variants import OFF

AXES = (("visual_tokens", "visual tokens kept", 1.0), ("seconds", "time a question (ms)", 1e3))
BARS = "bars: change against off, 95 %"
LEAST_SPAN = 10.0  # points that an axis of quality spans at the least
ASIDE = 0.012  # of the highest cost, from one method's bars to the next's
QUESTIONS_HIGH = 20  # an axis is at least as high as so many questions


def plot_frontier(report: dict[str, Any], path: Path) -> None:
    """Draw the section `sweep` of a report to `path`.

    Every schedule is a point; its bar is the 95 % interval of its change against `off` on the same
    questions. A line joins the points that no cheaper one equals.
    """
    sweep = report["sweep"]
    points = [point for point in sweep["points"] if point["quality"] is not None]
    title = f"{report['model']['id']}, {report['all']['questions']} questions; {BARS}"
    figure, plots = side_by_side(len(AXES), title)
    for axes, (cost, label, scale) in zip(plots, AXES, strict=True):
        look = looks()
        for point in points:
            own = {"color": "black", "marker": "*", "ms": 9} if point["variant"] == OFF else next(look)
            axes.errorbar(
                point[cost] * scale,
                100 * point["quality"],
                yerr=_bar(report["all"]["variants"][point["variant"]], sweep["quality"]),
                ls="",
                **own,
                capsize=2,
                label=point["variant"],
            )
        best = _best(points, cost)
        axes.plot([p[cost] * scale for p in best], [100 * p["quality"] for p in best], color="grey", lw=1)
        axes.set(xlabel=label, ylabel=f"{sweep['quality']} (%)", xlim=(0, None))
        no_cliff(axes, report["all"]["questions"])
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)


def _bar(figures: dict[str, Any], quality: str) -> list[list[float]] | None:
    """Points below and above; the reference has none, being compared with itself."""
    found = figures.get("difference" if quality == "accuracy" else "agreement")
    if not found:
        return None
    return [[100 * (found["value"] - found["low"])], [100 * (found["high"] - found["value"])]]


def no_cliff(axes: Any, questions: int) -> None:
    """Make the axis of quality (percent) high enough that one question more or less is a small step on it."""
    low, high = axes.get_ylim()
    span = min(110.0, max(LEAST_SPAN, QUESTIONS_HIGH * 100 / max(1, questions), high - low))
    middle = (low + high) / 2
    bottom = min(max(middle - span / 2, -5.0), max(105.0 - span, -5.0))
    axes.set_ylim(min(bottom, low), max(bottom + span, high))


def _best(points: list[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """The points that no cheaper one equals, from the cheapest on."""
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p[cost], -p["quality"])):
        if not best or point["quality"] > best[-1]["quality"]:
            best.append(point)
    return best


def plot_comparison(report: dict[str, Any], path: Path) -> None:
    """Draw the rows of a comparison to `path`: a line for each model and method, squares for whole models.

    Bars as of `plot_frontier`; those of one budget stand a little beside each other.
    """
    rows = [row for row in report["rows"] if row["quality"] is not None]
    models = list(dict.fromkeys(row["model"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows if row["variant"] != OFF))
    figure, plots = side_by_side(len(AXES), f"{rows[0]['answered']} questions; {BARS}" if rows else "")
    for axes, (cost, label, scale) in zip(plots, AXES, strict=True):
        styles = itertools.cycle((("-", "s", "full"), ("--", "D", "none"), (":", "^", "full")))
        for model, (line, shape, fill) in zip(models, styles, strict=False):
            own = [row for row in rows if row["model"] == model]
            whole = [row for row in own if row["variant"] == OFF]
            square = {"color": "black", "marker": shape, "ls": "", "fillstyle": fill, "zorder": 3}
            axes.errorbar(**_curve(whole, cost, scale), **square, label=f"{model}, whole")
            most = max((_cost(row, cost, scale) for row in own), default=0.0)
            for number, (method, look) in enumerate(zip(methods, looks(), strict=False)):
                points = [row for row in own if row["method"] == method and row["variant"] != OFF]
                style = look | {"ls": line, "ms": 5, "fillstyle": fill, "capsize": 2, "elinewidth": 0.8}
                curve = _curve(points, cost, scale)
                if cost == "visual_tokens":  # where all methods have the same
                    aside = ASIDE * most * (number - (len(methods) - 1) / 2)
                    curve["x"] = [x + aside for x in curve["x"]]
                axes.errorbar(**curve, **style, label=f"{model}, {method}")
        axes.margins(x=0.08)
        axes.set(xlabel=label, ylabel="quality (%)")
        axes.set_xlim(left=0)
        no_cliff(axes, max((row["answered"] for row in rows), default=0))
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)


def _curve(rows: list[dict[str, Any]], cost: str, scale: float) -> dict[str, Any]:
    """Costs, ascending, qualities in percent, and the bars of these."""
    points = sorted(rows, key=lambda row: _cost(row, cost, scale))
    bars = [_bar(row, "accuracy" if row.get("accuracy") else "agreement") or [[0.0], [0.0]] for row in points]
    return {
        "x": [_cost(row, cost, scale) for row in points],
        "y": [100 * row["quality"] for row in points],
        "yerr": [[bar[side][0] for bar in bars] for side in (0, 1)],
    }


def _cost(row: dict[str, Any], cost: str, scale: float) -> float:
    return (row["visual_tokens"]["llm_kept"] if cost == "visual_tokens" else row[cost]) * scale
