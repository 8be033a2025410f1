"""From answers to figures: accuracy, losses, agreement, tokens, time and memory, by task and over all.

`summary` makes the section of the JSON report; `tables` and `markdown` show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from illava_cli.evals.lanes import AnyLane
from illava_cli.evals.results import Results
from illava_cli.evals.runner import Asked
from illava_cli.evals.statistics import paired_difference, share
from illava_cli.evals.survivors import shares
from illava_cli.evals.variants import BLIND, OFF
from illava_cli.figures import megabytes, number, seconds, stages

STAGES = ("patches", "vision_kept", "llm_in", "llm_kept")
WIDE = 3  # more merging variants than these stand in rows, not in columns
Record = dict[str, Any]
Table = tuple[list[str], list[list[str]]]  # header, rows


def summary(lanes: Sequence[AnyLane], asked: Sequence[Asked], results: Results) -> dict[str, Any]:
    """What was measured: `variants`, figures by `tasks` and for `all` questions, and what `failed`."""
    tasks = list(dict.fromkeys(question.task for question in asked))
    by_task = {task: [question for question in asked if question.task == task] for task in tasks}
    names = [lane.variant.name for lane in lanes]
    return {
        "variants": {lane.variant.name: _about(lane) for lane in lanes},
        "tasks": {task: _figures(names, questions, results) for task, questions in by_task.items()},
        "all": _figures(names, asked, results),
        "failed": _failures(names, asked, results),
    }


def _about(lane: AnyLane) -> dict[str, Any]:
    config = lane.variant.config
    return {
        "preset": config.preset,
        "blind": lane.variant.blind,
        "config_hash": config.hash(),
        **lane.about(),
    }


def _figures(names: list[str], asked: Sequence[Asked], results: Results) -> dict[str, Any]:
    """The figures of each variant over these questions; the first is the reference."""
    reference = names[0]
    found = {name: [_answered(results.get(question.keys[name])) for question in asked] for name in names}
    variants = {
        name: _variant(found[reference], found[name], is_reference=name == reference) for name in names
    }
    return {"questions": len(asked), "variants": variants}


def _answered(record: Record | None) -> Record | None:
    return record if record is not None and record["status"] == "ok" else None


def _variant(theirs: list[Record | None], ours: list[Record | None], *, is_reference: bool) -> dict[str, Any]:
    """One variant's figures; None where there is nothing to measure them on.

    Args:
        theirs: the reference's answers to the same questions, None where one failed.
        ours: this variant's.
    """
    known = [record for record in ours if record is not None]
    marks = [record["correct"] for record in known if record["correct"] is not None]
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if a is not None and b is not None]
    marked = [(a["correct"], b["correct"]) for a, b in pairs if a["correct"] is not None]
    same = sum(a["text"] == b["text"] for a, b in pairs)
    peaks = [p for record in known if (p := record["peak_bytes_beyond_weights"]) is not None]
    visual = [record["usage"]["visual"] for record in known]
    figures = {
        "answered": len(known),
        "failed": len(ours) - len(known),
        "accuracy": asdict(share(sum(marks), len(marks))) if marks else None,
        "visual_tokens": {stage: fmean(v[stage] for v in visual) for stage in STAGES} if known else None,
        "seconds": fmean(record["seconds"] for record in known) if known else None,
        "peak_bytes_beyond_weights": max(peaks, default=None),
        "survivors": shares(known),
    }
    if not is_reference:
        distances = [record["kl"] for record in known if record["kl"] is not None]
        figures |= {
            "difference": asdict(paired_difference(*zip(*marked, strict=True))) if marked else None,
            "agreement": asdict(share(same, len(pairs))) if pairs else None,
            "kl": fmean(distances) if distances else None,
        }
    return figures


def _failures(names: list[str], asked: Sequence[Asked], results: Results) -> list[dict[str, Any]]:
    """Each question that has no answer under some variant, with its first error."""
    failures = []
    for question in asked:
        records = {name: results.get(question.keys[name]) for name in names}
        broken = [name for name, record in records.items() if _answered(record) is None]
        if broken:
            error = records[broken[0]]["error"]
            failures.append({"id": question.keys[names[0]][0], "variants": broken, "error": error})
    return failures


# --- for people ------------------------------------------------------------------------------


def tables(report: dict[str, Any]) -> list[Table]:
    """The tables of a report: over all questions, by task, and where survivors lie."""
    found = [overview(report)]
    if len(report["tasks"]) > 1:
        found.append(by_task(report))
    return found + survivor_tables(report)


def overview(report: dict[str, Any]) -> Table:
    """A row for each variant, over all questions."""
    whole, columns = report["all"], dict(COLUMNS)
    if any(figures["failed"] for figures in whole["variants"].values()):
        columns["failed"] = lambda f: str(f["failed"])
    rows = [
        [name, *(show(figures) for show in columns.values())] for name, figures in whole["variants"].items()
    ]
    return [f"{whole['questions']} questions", *columns], rows


def by_task(report: dict[str, Any]) -> Table:
    """Accuracy by task; few variants stand side by side with their losses, many below one another."""
    tasks, names = report["tasks"], list(report["variants"])
    if sum(name not in (OFF, BLIND) for name in names) > WIDE:
        rows = [
            [name, *(_percent(_of(task["variants"][name], "accuracy")) for task in tasks.values())]
            for name in names
        ]
        return ["accuracy %", *tasks], rows
    rows = []
    for name, task in tasks.items():
        cells = [
            _accuracy(figures) if variant == names[0] else f"{_plain(figures)} {_difference(figures)}"
            for variant, figures in task["variants"].items()
        ]
        rows.append([name, str(task["questions"]), *cells])
    return ["accuracy %", "questions", *names], rows


def survivor_tables(report: dict[str, Any]) -> list[Table]:
    """The share of the decoder's survivors by quarter of the sequence, and by frame."""
    noted = {
        name: figures["survivors"]
        for name, figures in report["all"]["variants"].items()
        if figures["survivors"]
    }
    if not noted:
        return []
    header = ["survivors, % by quarter", "first", "second", "third", "fourth"]
    found = [(header, [[name, *map(_percent, s["quarters"])] for name, s in noted.items()])]
    lengths = sorted({int(length) for s in noted.values() for length in s["frames"]})
    for length in lengths:
        header = ["survivors, % by frame", *map(str, range(1, length + 1))]
        found.append(
            (header, [[name, *map(_percent, s["frames"][str(length)])] for name, s in noted.items()])
        )
    return found


def notes(report: dict[str, Any]) -> str:
    """What the columns mean, in a few lines."""
    reference = next(iter(report["variants"]))
    return (
        f"In brackets: 95 % intervals. change: points of accuracy against {reference} on the same questions "
        f"(paired). KL: mean divergence of the first token's distribution from {reference}'s, in nats. "
        "visual tokens: into the tower -> out of it -> into the LLM -> kept by it, means. time: seconds a "
        f"question, in batches of {report['settings']['batch_size']}. peak: of one question alone, beyond "
        "the weights."
    )


def markdown(report: dict[str, Any], headline: str) -> str:
    """The tables as a Markdown page."""
    lines = [headline, "", f"    {report['machine']['command']}", ""]
    for header, rows in tables(report):
        lines += ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
        lines.append("")
    return "\n".join([*lines, notes(report), ""])


def _of(figures: dict[str, Any], name: str) -> float | None:
    return None if figures.get(name) is None else figures[name]["value"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _share(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    return f"{_percent(value['value'])} [{_percent(value['low'])}, {_percent(value['high'])}]"


def _accuracy(figures: dict[str, Any]) -> str:
    return _share(figures["accuracy"])


def _plain(figures: dict[str, Any]) -> str:
    return _percent(_of(figures, "accuracy"))


def _difference(figures: dict[str, Any]) -> str:
    value = figures.get("difference")
    if value is None:
        return "-"
    points = [f"{100 * value[name]:+.1f}" for name in ("value", "low", "high")]
    return f"{points[0]} [{points[1]}, {points[2]}]"


def _tokens(visual: dict[str, float] | None) -> str:
    return "-" if visual is None else stages(math.floor(visual[stage] + 0.5) for stage in STAGES)


# what a table shows of a variant's figures
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "accuracy %": _accuracy,
    "change": _difference,
    "same answer %": lambda f: _share(f.get("agreement")),
    "KL": lambda f: number(f.get("kl")),
    "visual tokens": lambda f: _tokens(f["visual_tokens"]),
    "time": lambda f: seconds(f["seconds"]),
    "peak": lambda f: megabytes(f["peak_bytes_beyond_weights"]),
}
