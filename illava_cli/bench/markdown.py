"""Saved reports as one Markdown page: `python -m illava_cli.bench.markdown FILE...`, the page on stdout.

A file that is not there is listed as not measured: numbers are measured, or there are none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illava_cli.bench import text
from illava_cli.bench.text import Table, headline, merged, tables


def page(reports: dict[str, dict[str, Any] | None], title: str = "Benchmarks") -> str:
    """A page with a section for each report; None stands for one that was not measured."""
    lines = [f"# {title}", ""]
    known = [report for report in reports.values() if report is not None]
    if known:
        lines += [*machine_lines(known[0]["machine"]), ""]
    lines += [
        "Times are medians with the least and the greatest in brackets, speed-ups medians over interleaved",
        "rounds. `1.62x of 1.83x: 88 %` is the measured speed-up over the unmodified `transformers` model,",
        "the bound (the ratio of floating-point operations) and the share of it that was reached.",
        "",
    ]
    if known:
        lines += [_slowest(reports), ""]
    for name, report in reports.items():
        lines += [f"## {name}", ""]
        if report is None:
            lines += ["Not measured.", ""]
            continue
        commit = report["machine"]["commit"] or "unknown"
        lines += [f"{headline(report)} | commit {commit}", "", f"    {report['machine']['command']}", ""]
        for table in tables(report):
            lines += [*table_lines(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _slowest(reports: dict[str, dict[str, Any] | None]) -> str:
    """Whether any merged request was slower than the unmodified model's, and where merging gained least."""
    found = [
        (variant["speedup"]["request"]["median"], f"{_case(name, result)}, `{preset}`")
        for name, report in reports.items()
        for result in (report or {}).get("results", [])
        for preset, variant in result["variants"].items()
        if "speedup" in variant and merged(variant["tokens"]["visual"])
    ]
    if not found:
        return "No merged request was measured."
    slower = [f"{where} ({speedup:.2f}x)" for speedup, where in sorted(found) if speedup < 1]
    if slower:
        return f"Slower than the unmodified model: {'; '.join(slower)}."
    speedup, where = min(found)
    return (
        f"None of the {len(found)} merged requests was slower than the unmodified model; "
        f"the least gain was {speedup:.2f}x: {where}."
    )


def _case(name: str, result: dict[str, Any]) -> str:
    """A result's section and medium, said once where the section has the medium's name."""
    medium = text.title(result)
    return name if name == medium else f"{name}, {medium}"


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """What was measured on, as a list."""
    graphics = ", ".join(f"{gpu['name']} ({_gigabytes(gpu['memory_bytes'])})" for gpu in machine["gpus"])
    memory = _gigabytes(machine["memory_bytes"]) if machine["memory_bytes"] else "unknown memory"
    versions = f"Python {machine['python']}, torch {machine['torch']}"
    versions += f", transformers {machine['transformers']}, illava {machine['illava']}"
    for name in ("triton", "cuda", "driver"):
        if machine["gpus"] and machine.get(name):
            versions += f", {name} {machine[name]}"
    return [
        f"- CPU: {machine['cpu']}, {machine['cores']} cores ({machine['threads']} threads used), {memory}",
        f"- GPU: {graphics or 'none'}",
        f"- {machine['os']}, {versions}",
    ]


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.0f} GB"


def table_lines(table: Table) -> list[str]:
    """A table as Markdown."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def main(paths: Sequence[str]) -> int:
    """Write the page of these saved reports to stdout."""
    reports: dict[str, dict[str, Any] | None] = {}
    for path in map(Path, paths):
        name = path.stem.partition(".")[2] or path.stem  # MACHINE.NAME.json
        reports[name] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    sys.stdout.write(page(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
