"""Models x methods x budgets on the same questions, budgets matched by the tokens that remain.

A budget is the share of visual tokens that the decoder's last layers still see. A method for tower and
decoder spends it in both, as the paper's setting does (729 -> 361 -> 253: two thirds of the reduction, in
logarithms, in the tower); one for the decoder alone spends all of it there. A guided one spends it on pixels:
of a LLaVA's tiles, or of its frames, only whole ones can leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from illava_cli.evals.report import COLUMNS, Table
from illava_cli.evals.sweep import Point, placed, quality
from illava_cli.evals.variants import OFF
from illava_cli.models.planning import known_method

if TYPE_CHECKING:
    from illava_cli.config.stages import Reduction
    from illava_cli.models.family import Family

IN_TOWER = 2 / 3  # ln(361 / 729) / ln(253 / 729) = 0.66


def check(methods: Sequence[str]) -> None:
    """Refuse a method that there is not.

    Raises:
        UsageError: names the near miss.
    """
    for method in methods:
        known_method(method)


def settings(family: Family, base: Reduction, method: str, keep: float) -> list[str]:
    """What makes `method` of a preset, at the preset's layers, so that the share `keep` remains.

    Raises:
        UsageError: no such method.
    """
    stages = known_method(method).stages
    found = [f"method={method}"]
    if stages in (("guide",), ("input",)):
        return [*found, f"{stages[0]}={{keep: {keep!r}}}", "vision=null", "llm=null"]
    image, video = (
        _point(family, base, kind, stages, keep).stages(family, base.layout) for kind in ("image", "video")
    )
    for stage, value in image.items():
        same = value == video[stage]
        found.append(f"{stage}={value if same else f'{{image: {value}, video: {video[stage]}}}'}")
    return found


def _point(family: Family, base: Reduction, kind: str, stages: Sequence[str], keep: float) -> Point:
    """A share spent where a method has a meaning, at the layers at which `base` merges a kind of medium."""
    vision_layers, llm_layers = placed(family, base, kind)
    both = {"vision", "llm"} <= set(stages)
    tower = keep**IN_TOWER if both else keep
    decoder = keep / tower if both else keep
    return Point(
        tower if "vision" in stages else 1.0,
        tuple(vision_layers) if "vision" in stages else (),
        decoder if "llm" in stages else 1.0,
        tuple(llm_layers) if "llm" in stages else (),
    )


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


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A line for each row, the models below one another."""
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
    """The table as a Markdown page."""
    header, lines = table(report["rows"])
    cells = (header, ["---"] * len(header), *lines)
    body = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([headline, "", f"    {report['machine']['command']}", "", *body, ""])
