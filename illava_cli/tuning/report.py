"""What a search found, as a table, as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from illava_cli.bench.machine import describe
from illava_cli.drawing import GREY, looks, save, side_by_side
from illava_cli.evals.plot import no_cliff
from illava_cli.evals.report import COLUMNS, Table
from illava_cli.evals.results import asked
from illava_cli.tuning.questions import Part
from illava_cli.tuning.search import Search, Tried
from illava_cli.tuning.target import Target

FIGURE_HEIGHT = 5.2  # inches: the names stand below the plots
SHOWN = ("change", "same answer %", "KL", "visual tokens")


def table(found: Sequence[dict[str, Any]], kind: str, questions: int) -> Table:
    """The finalists for one kind of medium on the questions of the check."""
    header = [f"{kind}s, {questions} questions", "operations", "measured", *SHOWN]
    lines = [
        [
            ("* " if row["chosen"] else "") + row["name"],
            f"{row['speed']:.2f}x",
            "-" if row["measured"] is None else f"{row['measured']:.2f}x",
            *(COLUMNS[column](row["check"]) for column in SHOWN),
        ]
        for row in found
    ]
    return header, lines


Done = tuple[Search, list[Tried], Tried]  # a search, its finalists, and the one that is chosen


def report(
    model: dict[str, Any], target: Target, parts: Mapping[str, Part], done: Sequence[Done], seed: int
) -> dict[str, Any]:
    """The report in JSON."""
    kinds = {}
    for search, shown, chosen in done:
        part = parts[search.kind]
        keys = "".join(asked(sample) for sample in part.all)
        kinds[search.kind] = {
            "search_questions": len(part.search),
            "check_questions": len(part.check),
            "questions_hash": sha256(keys.encode()).hexdigest()[:12],
            "kept": search.kept(chosen),
            "finalists": rows(shown, chosen),
            "schedules": {
                one.candidate.name: {"stages": one.candidate.stages, "speed": one.speed}
                for one in search.tried.values()
            },
            "rounds": search.log,
        }
    return {
        "target": str(target),
        "seed": seed,
        "model": model,
        "machine": describe(),
        "kinds": kinds,
    }


def rows(shown: Sequence[Tried], chosen: Tried) -> list[dict[str, Any]]:
    """The finalists as the JSON report has them."""
    return [
        {
            "name": one.candidate.name,
            "chosen": one is chosen,
            "stages": one.candidate.stages,
            "speed": one.speed,
            "measured": one.measured,
            "search": one.figures,
            "check": one.checked,
        }
        for one in shown
    ]


def markdown(report: dict[str, Any], headline: str) -> str:
    """The tables as a Markdown page."""
    parts = [headline, f"    {report['machine']['command']}"]
    for kind, found in report["kinds"].items():
        header, lines = table(found["finalists"], kind, found["check_questions"])
        cells = (header, ["---"] * len(header), *lines)
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in cells))
    parts.append(NOTE)
    return "\n\n".join(parts) + "\n"


NOTE = (
    "`*` is chosen. Operations: how many times fewer up to the first token, counted; measured: by the clock, "
    "beside the unmodified model. In brackets: 95 % intervals, on questions that the search did not ask."
)


def plot(done: Sequence[Done], title: str, path: Path) -> None:
    """Draw every schedule that was asked, on the questions of its last round: the finalists in colours, those
    that left, on fewer questions, in grey.
    """
    figure, plots = side_by_side(len(done), f"{title}; bars: 95 %")
    figure.set_figheight(FIGURE_HEIGHT)
    for axes, (search, shown, chosen) in zip(plots, done, strict=True):
        look = looks()
        questions = search.log[-1]["questions"]
        for one in search.tried.values():
            if not one.figures or not one.figures["agreement"]:  # never asked, or never answered
                continue
            value, low, high, quality = _quality(one.figures, search.marked)
            bars = {"yerr": [[value - low], [high - value]], "ls": "", "capsize": 2}
            if not any(one is finalist for finalist in shown):
                axes.errorbar(
                    [one.speed], [value], **bars, fmt="o", color=GREY, ms=3, alpha=0.4, elinewidth=0.5
                )
                continue
            star = {"marker": "*", "ms": 12} if one is chosen else {"ms": 5}
            label = one.candidate.name + (" (chosen)" if one is chosen else "")
            axes.errorbar([one.speed], [value], **bars, **(next(look) | star), label=label, zorder=3)
        axes.axvline(1.0, color="black", lw=0.8, ls=":")
        axes.set(xlabel="times fewer operations to the first token", ylabel=quality)
        axes.set_title(f"{search.kind}s, {questions} questions", fontsize=9)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)
        no_cliff(axes, questions)
    save(figure, path)


def _quality(figures: dict[str, Any], marked: bool) -> tuple[float, float, float, str]:
    """Percent with the ends of its interval: the change of accuracy if all is marked, else agreement."""
    found, name = figures["agreement"], "same answers (%)"
    if marked:
        found, name = figures["difference"], "change of accuracy (points)"
    return 100 * found["value"], 100 * found["low"], 100 * found["high"], name
