"""The table of docs/families.md says of each family what the collected tests show of it, and no more."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.builders import WRITERS
from tests.schedules import SCHEDULES

ROOT = Path(__file__).parents[1]
HEADING = "## What is tested"


def table() -> list[list[str]]:
    """The cells of each row, its header first."""
    text = (ROOT / "docs" / "families.md").read_text(encoding="utf-8").split(HEADING, 1)[1]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("|--")]


def cited(row: list[str]) -> str:
    """`path::test`, or `path::test[case]`."""
    return "tests/" + re.fullmatch(r"`(.+)`", row[-1])[1]


def shown() -> dict[str, set[str]]:
    """By test, and by test and case, the families that have one."""
    files = sorted({cited(row).split("::")[0] for row in table()[1:]})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *files,
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240).stdout
    found = defaultdict(set)
    for test, parts in re.findall(r"^(\S+?::\w+)\[(.+)\]$", listed, flags=re.MULTILINE):
        parts = parts.split("-")
        of = [part if part in WRITERS else SCHEDULES.get(part, [None])[0] for part in parts]
        for family in filter(None, of):
            found[test].add(family)
            for part in parts:
                found[f"{test}[{part}]"].add(family)
    return found


def test_the_table_of_families_is_what_the_tests_show():
    header, *rows = table()
    assert header == ["", *(f"`{family}`" for family in WRITERS), "test"]
    found, wrong = shown(), []
    for row in rows:
        marks = ["x" if family in found[cited(row)] else "" for family in WRITERS]
        if row[1:-1] != marks:
            wrong.append(re.sub(r"\| +(?=\|)", "| ", f"| {' | '.join([row[0], *marks, row[-1]])} |"))
    assert not wrong, "\n" + "\n".join(wrong)
