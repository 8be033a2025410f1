"""What a search found, as a table, as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from illava_cli.bench.machine import describe
from illava_cli.drawing import GREY, looks, save, side_by_side
from illava_cli.evals.plot import BARS, no_cliff
from illava_cli.evals.report import COLUMNS, Table
from illava_cli.evals.results import asked
from illava_cli.tuning.questions import Part
from illava_cli.tuning.search import Search, Tried
from illava_cli.tuning.target import Target

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
            "kept": target.kept(chosen.known()),
            "finalists": rows(shown, chosen),
            "schedules": {
                name: {"stages": one.candidate.stages, "speed": one.speed}
                for name, one in search.tried.items()
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


def plot(searches: Sequence[tuple[Search, Tried]], title: str, path: Path) -> None:
    """Draw every schedule that was asked in a last round, and the earlier ones in grey."""
    figure, plots = side_by_side(len(searches), f"{title}; {BARS}")
    for axes, (search, chosen) in zip(plots, searches, strict=True):
        last = search.log[-1]
        look = looks()
        for one in search.tried.values():
            name = one.lane.variant.name
            if not one.figures:
                continue
            value, low, high, quality = _quality(one.figures)
            if name not in last["figures"]:
                axes.plot([one.speed], [value], "o", color=GREY, ms=3, alpha=0.6)
                continue
            style = next(look) | ({"ms": 9} if one is chosen else {"ms": 5})
            label = ("* " if one is chosen else "") + one.candidate.name
            bars = [[value - low], [high - value]]
            axes.errorbar([one.speed], [value], yerr=bars, ls="", capsize=2, label=label, **style)
        axes.axvline(1.0, color="black", lw=0.8, ls=":")
        axes.set(xlabel="times fewer operations to the first token", ylabel=f"{quality} (%)")
        axes.set_title(f"{search.kind}s, {last['questions']} questions", fontsize=9)
        axes.legend(fontsize=6, loc="lower left")
        no_cliff(axes, last["questions"])
    save(figure, path)


def _quality(figures: dict[str, Any]) -> tuple[float, float, float, str]:
    """Percent with the ends of its interval: the change of accuracy where it is known, else agreement."""
    found, name = figures["difference"], "change of accuracy"
    if not found:
        found, name = figures["agreement"], "same answers"
    return 100 * found["value"], 100 * found["low"], 100 * found["high"], name
