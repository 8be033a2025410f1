"""Models x methods x budgets on the same questions, budgets matched by the tokens that remain.

A budget is the share of visual tokens that the decoder's last layers still see (`engine.shares`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from illava_cli.evals.report import COLUMNS, Table, by_task
from illava_cli.evals.sweep import quality
from illava_cli.evals.variants import OFF
from illava_cli.models.planning import known_method

if TYPE_CHECKING:
    pass


def check(methods: Sequence[str]) -> None:
    """Refuse a method that there is not.

    Raises:
        UsageError: names the near miss.
    """
    for method in methods:
        known_method(method)


def rows(reports: Sequence[dict[str, Any]], asked: dict[str, tuple[str, float]]) -> list[dict[str, Any]]:
    """Each model under each variant: quality, what was really kept, time and memory.

    Args:
        reports: one `summary` for each model, with its section `model`.
        asked: method and budget by the name of a variant.
    """
    found = []
    for report in reports:
        for name, figures in report["all"]["variants"].items():
            method, keep = asked.get(name, (name, None))
            tokens = figures["visual_tokens"]
            whole = report["all"]["variants"][OFF]["visual_tokens"]
            kept = None
            if tokens and whole and whole["llm_kept"]:
                kept = tokens["llm_kept"] / whole["llm_kept"]
            seconds = figures["seconds"]
            found.append(
                {"model": report["model"]["id"], "variant": name, "method": method, "budget": keep}
                | {"quality": quality(figures), "kept": kept, **figures}
                | {"questions_per_s": 1 / seconds if seconds else None}
            )
    return found


def tables(report: dict[str, Any]) -> list[Table]:
    """A line for each row, the models below one another; then each model's accuracy by task."""
    several = [model for model in report["models"] if len(model["tasks"]) > 1]
    return [_overview(report["rows"]), *(_by_task(model) for model in several)]


def _by_task(model: dict[str, Any]) -> Table:
    header, lines = by_task(model)
    return [f"{header[0]}, {model['model']['id']}", *header[1:]], lines


def _overview(found: Sequence[dict[str, Any]]) -> Table:
    return (
        ["model", "method", "asked", "kept", *COLUMNS, "questions/s"],
        [
            [
                row["model"],
                row["method"],
                "-" if row["budget"] is None else f"{row['budget']:.0%}",
                "-" if row["kept"] is None else f"{row['kept']:.0%}",
                *(show(row) for show in COLUMNS.values()),
                "-" if row["questions_per_s"] is None else f"{row['questions_per_s']:.3g}",
            ]
            for row in found
        ],
    )


def markdown(report: dict[str, Any], headline: str) -> str:
    """The tables as a Markdown page."""
    body = [headline, "", f"    {report['machine']['command']}"]
    for header, lines in tables(report):
        cells = (header, ["---"] * len(header), *lines)
        body += ["", *("| " + " | ".join(row) + " |" for row in cells)]
    return "\n".join([*body, ""])
