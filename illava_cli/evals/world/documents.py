"""Questions about documents: what a line, a cell, a bar, a field or a button says.

The text is small and the paper mostly blank: the tiles show what is written, the picture shrunk to one tile
does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from illava_cli.evals.world.pages import (
    STEPS,
    Chart,
    Lines,
    Screen,
    Table,
    lay_chart,
    lay_lines,
    lay_screen,
    lay_table,
)
from illava_cli.evals.world.scene import WORDS, pick
from illava_cli.evals.world.several import ORDINALS
from illava_cli.evals.world.sheet import Sheet
from illava_cli.evals.world.task import Question, Stage, Still, Task

BESIDE = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}  # row, column


def ask_line(page: Lines, rng: np.random.Generator) -> Question:
    number = int(rng.integers(len(page.lines)))
    words = page.lines[number]
    place = int(rng.integers(len(words)))
    return f"What is the {ORDINALS[place]} word of line {number + 1}?", words[place]


def ask_cell(table: Table, rng: np.random.Generator) -> Question:
    row, column = int(rng.integers(len(table.rows))), int(rng.integers(len(table.columns)))
    return f"What is in row {table.rows[row]}, column {table.columns[column]}?", table.cells[row][column]


def ask_bar(chart: Chart, rng: np.random.Generator) -> Question:
    label, value = pick(rng, list(chart.bars.items()))
    return f"What is the value of bar {label}?", str(value)


def ask_tallest(chart: Chart, rng: np.random.Generator) -> Question:
    return "Which bar is the tallest?", max(chart.bars, key=chart.bars.get)


def ask_field(screen: Screen, rng: np.random.Generator) -> Question:
    label, value = pick(rng, list(screen.fields.items()))
    return f"What is in field {label}?", value


def ask_button(screen: Screen, rng: np.random.Generator) -> Question:
    """Which button is next to another."""
    places = {(r, c): name for r, line in enumerate(screen.buttons) for c, name in enumerate(line)}
    pairs = [
        (name, way, places[row + down, column + right])
        for (row, column), name in places.items()
        for way, (down, right) in BESIDE.items()
        if (row + down, column + right) in places
    ]
    name, way, other = pick(rng, pairs)
    return f"Which button is {way} {name}?", other


def _task(
    lay: Callable[[np.random.Generator], Sheet],
    kind: type,
    ask: Callable[..., Question],
    choices: tuple[str, ...] | None = None,
) -> Task:
    """A task about sheets that hold content of one kind; nothing is asked about others."""

    def asked(stage: Stage, rng: np.random.Generator) -> Question | None:
        content = stage.scene.content
        return ask(content, rng) if isinstance(content, kind) else None

    return Task(lambda rng: Still(lay(rng)), asked, choices)


TASKS = {
    "document-line": _task(lay_lines, Lines, ask_line, WORDS),
    "document-cell": _task(lay_table, Table, ask_cell),
    "document-bar": _task(lay_chart, Chart, ask_bar, tuple(str(10 * n) for n in range(1, STEPS + 1))),
    "document-tallest": _task(lay_chart, Chart, ask_tallest, WORDS),
    "document-field": _task(lay_screen, Screen, ask_field),
    "document-button": _task(lay_screen, Screen, ask_button, WORDS),
}
