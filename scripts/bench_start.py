"""How long the program takes to say something, in two checkouts side by side.

    .venv/bin/python scripts/bench_start.py ../before .

Their runs alternate, so that whatever else the machine does is in both. Prints a table in Markdown:
medians, and the fastest in brackets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median

RUNS = 15
CASES = {
    "illava --help": (["--help"], {}),
    "illava --version": (["--version"], {}),
    "completion of `illava ru`": ([], {"COMP_WORDS": "illava ru", "COMP_CWORD": "1"}),
    "completion of `illava run --to`": ([], {"COMP_WORDS": "illava run --to", "COMP_CWORD": "2"}),
    "illava run --help": (["run", "--help"], {}),
    "illava batch --help": (["batch", "--help"], {}),
}


def once(checkout: str, arguments: list[str], asked: dict[str, str]) -> float:
    """Seconds of one run, the start of Python included."""
    environment = os.environ | asked | ({"_ILLAVA_COMPLETE": "complete_bash"} if asked else {})
    started = time.perf_counter()
    command = [sys.executable, "-m", "illava_cli", *arguments]
    subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, check=not asked)
    return time.perf_counter() - started


if __name__ == "__main__":
    print("| | before | after |\n|---|---|---|")
    for name, case in CASES.items():
        times = [[once(checkout, *case) for checkout in sys.argv[1:3]] for _ in range(RUNS + 1)][1:]
        columns = [f"{median(column):.3f} s ({min(column):.3f})" for column in zip(*times, strict=True)]
        print(f"| {name} | {' | '.join(columns)} |", flush=True)
