"""Accuracy over visual tokens and over time, as a picture: what a schedule costs and what it saves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from illava_cli.drawing import looks, save, side_by_side
from illava_cli.evals.variants import OFF

AXES = (("visual_tokens", "visual tokens kept", 1.0), ("seconds", "time a question (ms)", 1e3))


def plot_frontier(report: dict[str, Any], path: Path) -> None:
    """Draw the section `sweep` of a report to `path`.

    Every schedule is a point; its bar is the 95 % interval of its change against `off` on the same
    questions. A line joins the points that no cheaper one equals.
    """
    sweep = report["sweep"]
    points = [point for point in sweep["points"] if point["quality"] is not None]
    title = f"{report['model']['id']}, {report['all']['questions']} questions; bars: change against off, 95 %"
    figure, plots = side_by_side(len(AXES), title)
    for axes, (cost, label, scale) in zip(plots, AXES, strict=True):
        look = looks()
        for point in points:
            own = {"color": "black", "marker": "*", "ms": 9} if point["variant"] == OFF else next(look)
            axes.errorbar(
                point[cost] * scale,
                100 * point["quality"],
                yerr=_bar(report, point),
                ls="",
                **own,
                capsize=2,
                label=point["variant"],
            )
        best = _best(points, cost)
        axes.plot([p[cost] * scale for p in best], [100 * p["quality"] for p in best], color="grey", lw=1)
        axes.set(xlabel=label, ylabel=f"{sweep['quality']} (%)", xlim=(0, None))
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)


def _bar(report: dict[str, Any], point: dict[str, Any]) -> list[list[float]] | None:
    """Points below and above; the reference has none, being compared with itself."""
    measure = "difference" if report["sweep"]["quality"] == "accuracy" else "agreement"
    found = report["all"]["variants"][point["variant"]].get(measure)
    if not found:
        return None
    return [[100 * (found["value"] - found["low"])], [100 * (found["high"] - found["value"])]]


def _best(points: list[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """The points that no cheaper one equals, from the cheapest on."""
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p[cost], -p["quality"])):
        if not best or point["quality"] > best[-1]["quality"]:
            best.append(point)
    return best


def plot_comparison(report: dict[str, Any], path: Path) -> None:
    """Draw the rows of a comparison to `path`: a line for each model and method, squares for whole models."""
    rows = [row for row in report["rows"] if row["quality"] is not None]
    models = list(dict.fromkeys(row["model"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows if row["variant"] != OFF))
    figure, plots = side_by_side(len(AXES), f"{rows[0]['answered']} questions" if rows else "")
    for axes, (cost, label, scale) in zip(plots, AXES, strict=True):
        styles = itertools.cycle((("-", "s", "full"), ("--", "D", "none"), (":", "^", "full")))
        for model, (line, shape, fill) in zip(models, styles, strict=False):
            own = [row for row in rows if row["model"] == model]
            whole = [row for row in own if row["variant"] == OFF]
            square = {"color": "black", "marker": shape, "ls": "", "fillstyle": fill, "zorder": 3}
            axes.plot(*_curve(whole, cost, scale), **square, label=f"{model}, whole")
            for method, look in zip(methods, looks(), strict=False):
                points = [row for row in own if row["method"] == method and row["variant"] != OFF]
                style = look | {"ls": line, "ms": 5, "fillstyle": fill}
                axes.plot(*_curve(points, cost, scale), **style, label=f"{model}, {method}")
        axes.margins(x=0.08)
        axes.set(xlabel=label, ylabel="quality (%)")
        axes.set_xlim(left=0)
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)


def _curve(rows: list[dict[str, Any]], cost: str, scale: float) -> tuple[list[float], list[float]]:
    """Costs, ascending, and qualities in percent."""
    points = sorted(
        ((row["visual_tokens"]["llm_kept"] if cost == "visual_tokens" else row[cost]) * scale, row["quality"])
        for row in rows
    )
    return [x for x, _ in points], [100 * y for _, y in points]
