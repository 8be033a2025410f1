"""Lays out four kinds of document: a page of numbered lines, a table, a bar chart and a screen.

Nothing here is measured in the font, so that a sheet is the same whatever draws it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from illava_cli.evals.world.scene import WORDS, pick
from illava_cli.evals.world.sheet import SIDE, Box, Colour, Sheet, Text

TITLES = ("Report", "Notes", "Orders", "Stock", "Plan", "Summary")
DAYS = ("MON", "TUE", "WED", "THU", "FRI")
HEAD = 36  # pixels of a table's first column
STEPS = 10  # of a chart's axis, ten units each
ACCENTS = ((44, 82, 150), (30, 110, 90), (150, 60, 50), (96, 70, 140), (70, 78, 90))


@dataclass(frozen=True)
class Style:
    """The colours of a sheet, and the size of its text."""

    paper: Colour
    ink: Colour
    faint: Colour
    accent: Colour
    size: int


@dataclass(frozen=True)
class Lines:
    """The words of each line, from line 1 on."""

    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """`cells` by row and column."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """The value of each bar, by its label."""

    bars: dict[str, int]


@dataclass(frozen=True)
class Screen:
    """What is in each field, by its label, and the names of the buttons by row and column."""

    fields: dict[str, str]
    buttons: tuple[tuple[str, ...], ...]


def draw_style(rng: np.random.Generator, dark: bool = False) -> Style:
    accent, size = pick(rng, ACCENTS), int(rng.integers(8, 10))
    if dark:
        return Style((34, 36, 42), (232, 232, 234), (120, 122, 130), accent, size)
    paper = pick(rng, ((255, 255, 255), (252, 250, 242), (244, 246, 249)))
    return Style(paper, pick(rng, ((20, 20, 22), (28, 32, 64))), (124, 126, 134), accent, size)


def draw_words(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """So many different words."""
    return tuple(str(word) for word in rng.choice(WORDS, count, replace=False))


def draw_numbers(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """So many different numbers of two digits."""
    return tuple(str(n) for n in 10 + rng.choice(90, count, replace=False))


def _heading(rng: np.random.Generator, style: Style, left: int, baseline: int) -> Text:
    return Text(pick(rng, TITLES), left, baseline, style.size + 3, style.ink)


def lay_lines(rng: np.random.Generator) -> Sheet:
    """A heading and five to eight short lines with their numbers, in two paragraphs."""
    style, count = draw_style(rng), int(rng.integers(5, 9))
    lines = tuple(draw_words(rng, int(rng.integers(1, 4))) for _ in range(count))
    left, top = int(rng.integers(12, 34)), int(rng.integers(22, 46))
    pitch, pause = style.size + int(rng.integers(4, 8)), int(rng.integers(1, count))
    texts = [_heading(rng, style, left, top)]
    for number, words in enumerate(lines, 1):
        baseline = top + 6 + pitch * number + (6 if number > pause else 0)
        texts.append(Text(str(number), left + 6, baseline, style.size, style.faint, "r"))
        texts.append(Text("  ".join(words), left + 16, baseline, style.size, style.ink))
    rule = Box(left, top + 5, SIDE - left, top + 6, style.faint)
    return Sheet(style.paper, (rule,), tuple(texts), Lines(lines))


def lay_table(rng: np.random.Generator) -> Sheet:
    """A heading and a table of three to five rows and two or three columns, between rules."""
    style = draw_style(rng)
    rows, count = draw_words(rng, int(rng.integers(3, 6))), int(rng.integers(2, 4))
    start = int(rng.integers(len(DAYS) - count + 1))
    columns = DAYS[start : start + count]
    numbers = draw_numbers(rng, len(rows) * count)
    cells = tuple(numbers[i : i + count] for i in range(0, len(numbers), count))
    pitch, step = style.size + int(rng.integers(5, 9)), int(rng.integers(32, 38))
    wide, high = HEAD + step * count, pitch * (len(rows) + 1) + 18
    left, top = int(rng.integers(10, SIDE - 10 - wide)), int(rng.integers(24, SIDE - 8 - high))
    right, head = left + wide, top + 10 + pitch
    ends = [left + HEAD + step * number for number in range(1, count + 1)]
    texts = [_heading(rng, style, left, top)]
    texts += [
        Text(column, end, head, style.size, style.ink, "r") for column, end in zip(columns, ends, strict=True)
    ]
    for number, (row, line) in enumerate(zip(rows, cells, strict=True), 1):
        baseline = head + 3 + pitch * number
        texts.append(Text(row, left, baseline, style.size, style.ink))
        texts += [
            Text(cell, end, baseline, style.size, style.ink, "r")
            for cell, end in zip(line, ends, strict=True)
        ]
    bottom = head + 3 + pitch * len(rows)
    rules = tuple(Box(left, y, right, y + 1, style.ink) for y in (head - pitch + 2, head + 4, bottom + 5))
    return Sheet(style.paper, rules, tuple(texts), Table(rows, columns, cells))


def lay_chart(rng: np.random.Generator) -> Sheet:
    """A heading and three or four bars of different heights over an axis that goes to 100."""
    style, labels = draw_style(rng), draw_words(rng, int(rng.integers(3, 5)))
    values = tuple(int(v) for v in 10 * (1 + rng.choice(STEPS, len(labels), replace=False)))
    unit, slot, wide = int(rng.integers(10, 13)), int(rng.integers(33, 37)), int(rng.integers(14, 22))
    length, high = 4 + slot * len(labels), unit * STEPS  # of the axes
    left, floor = int(rng.integers(28, SIDE - 4 - length)), int(rng.integers(high + 30, 174))
    texts = [_heading(rng, style, left, floor - high - 14)]
    boxes = [Box(left - 1, floor - high, left, floor, style.ink)]
    for step in range(STEPS + 1):
        tick = floor - unit * step
        boxes.append(Box(left - (5 if step % 2 == 0 else 3), tick, left, tick + 1, style.ink))
        if step % 2 == 0:
            texts.append(Text(str(10 * step), left - 7, tick + 3, 9, style.ink, "r"))
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        middle = left + 4 + slot * number + slot // 2
        start = middle - wide // 2
        boxes.append(Box(start, floor - unit * value // 10, start + wide, floor, style.accent))
        texts.append(Text(label, middle, floor + 4 + style.size, style.size, style.ink, "m"))
    boxes.append(Box(left - 1, floor, left + length, floor + 1, style.ink))
    return Sheet(style.paper, tuple(boxes), tuple(texts), Chart(dict(zip(labels, values, strict=True))))


def lay_screen(rng: np.random.Generator) -> Sheet:
    """A window with one or two labelled fields over buttons in rows and columns."""
    style, count = draw_style(rng, dark=rng.random() < 0.3), int(rng.integers(1, 3))
    down, across = pick(rng, ((2, 2), (3, 1), (1, 3), (2, 3), (3, 2)))
    labels = draw_words(rng, count + down * across)
    fields = dict(zip(labels[:count], draw_numbers(rng, count), strict=True))
    buttons = tuple(labels[i : i + across] for i in range(count, len(labels), across))
    left, top = int(rng.integers(10, 42)), int(rng.integers(28, 44))
    white = (255, 255, 255)
    boxes = [Box(0, 0, SIDE, 16, style.accent), Box(SIDE - 13, 5, SIDE - 6, 12, style.accent, white)]
    texts = [Text(pick(rng, TITLES), 8, 12, style.size, white)]
    for number, (label, value) in enumerate(fields.items()):
        y = top + 22 * number
        boxes.append(Box(left + 40, y, left + 90, y + 15, style.paper, style.faint))
        texts.append(Text(label, left, y + 11, style.size, style.ink))
        texts.append(Text(value, left + 45, y + 11, style.size, style.ink))
    first = top + 22 * count + int(rng.integers(8, 20))
    for row, line in enumerate(buttons):
        for column, name in enumerate(line):
            x, y = left + 50 * column, first + 22 * row
            boxes.append(Box(x, y, x + 42, y + 15, style.accent))
            texts.append(Text(name, x + 21, y + 11, style.size, white, "m"))
    return Sheet(style.paper, tuple(boxes), tuple(texts), Screen(fields, buttons))
