"""Small documents of one tile, in text of the same size: the same questions at a fifth of the cost.

On pages of four tiles a word stood at the head of a row too seldom for a cell to learn to carry it.
"""

from __future__ import annotations

import numpy as np

from illava_cli.evals.world.pages import (
    DAYS,
    TITLES,
    Lines,
    Screen,
    Style,
    Table,
    draw_numbers,
    draw_style,
    draw_words,
)
from illava_cli.evals.world.scene import EDGE, pick
from illava_cli.evals.world.sheet import Box, Sheet, Text, font

WHITE = (255, 255, 255)
NUMBERS, BOXED = 0.6, 0.4  # shares of what is printed to be read


def draw_note(rng: np.random.Generator) -> Sheet:
    """A table more often than lines or a screen, as cells hang on two headings each."""
    return pick(rng, (lay_lines, lay_table, lay_table, lay_screen))(rng)


def lay_lines(rng: np.random.Generator) -> Sheet:
    """A heading and three or four lines of one or two words."""
    style, count = draw_style(rng), int(rng.integers(3, 5))
    lines = tuple(draw_words(rng, int(rng.integers(1, 3))) for _ in range(count))
    left, top, pitch = (
        int(rng.integers(2, 15)),
        int(rng.integers(12, 20)),
        style.size + int(rng.integers(4, 8)),
    )
    texts = [_heading(rng, style, left, top)]
    for number, words in enumerate(lines, 1):
        baseline = top + 4 + pitch * number
        texts.append(Text(str(number), left + 6, baseline, style.size, style.faint, "r"))
        texts.append(Text("  ".join(words), left + 16, baseline, style.size, style.ink))
    return _sheet(style, [Box(left, top + 4, EDGE - left, top + 5, style.faint)], texts, Lines(lines))


def lay_table(rng: np.random.Generator) -> Sheet:
    """A heading and a table of two or three rows and one or two columns."""
    style = draw_style(rng)
    rows, count = draw_words(rng, int(rng.integers(2, 4))), int(rng.integers(1, 3))
    start = int(rng.integers(len(DAYS) - count + 1))
    columns = DAYS[start : start + count]
    numbers = draw_numbers(rng, len(rows) * count)
    cells = tuple(numbers[i : i + count] for i in range(0, len(numbers), count))
    step, pitch = int(rng.integers(26, 30)), style.size + int(rng.integers(4, 8))
    left = int(rng.integers(2, EDGE - 30 - step * count))
    top = int(rng.integers(11, EDGE - 10 - pitch * (len(rows) + 1)))
    head, ends = top + 4 + pitch, [left + 30 + step * number for number in range(1, count + 1)]
    texts = [_heading(rng, style, left, top)]
    texts += [Text(c, end, head, style.size, style.ink, "r") for c, end in zip(columns, ends, strict=True)]
    for number, (row, line) in enumerate(zip(rows, cells, strict=True), 1):
        baseline = head + 3 + pitch * number
        texts.append(Text(row, left, baseline, style.size, style.ink))
        texts += [
            Text(c, end, baseline, style.size, style.ink, "r") for c, end in zip(line, ends, strict=True)
        ]
    rules = [Box(left, y, ends[-1], y + 1, style.ink) for y in (top + 3, head + 3)]
    return _sheet(style, rules, texts, Table(rows, columns, cells))


def lay_screen(rng: np.random.Generator) -> Sheet:
    """A window with one labelled field over two to four buttons."""
    style, (down, across) = (
        draw_style(rng, dark=rng.random() < 0.3),
        pick(rng, ((2, 1), (1, 2), (2, 2), (3, 1))),
    )
    label, *names = draw_words(rng, 1 + down * across)
    buttons = tuple(tuple(names[i : i + across]) for i in range(0, len(names), across))
    (value,) = draw_numbers(rng, 1)
    left = int(rng.integers(2, EDGE - 46 * across)) if across > 1 else int(rng.integers(2, 20))
    top = int(rng.integers(14, EDGE - 18 - 18 * down))
    boxes = [
        Box(0, 0, EDGE, 12, style.accent),
        Box(left + 32, top, left + 64, top + 13, style.paper, style.faint),
    ]
    texts = [
        Text(pick(rng, TITLES), 4, 9, style.size, WHITE),
        Text(label, left, top + 10, style.size, style.ink),
        Text(value, left + 37, top + 10, style.size, style.ink),
    ]
    for row, line in enumerate(buttons):
        for column, name in enumerate(line):
            x, y = left + 46 * column, top + 18 + 18 * row
            boxes.append(Box(x, y, x + 42, y + 15, style.accent))
            texts.append(Text(name, x + 21, y + 11, style.size, WHITE, "m"))
    return _sheet(style, boxes, texts, Screen({label: value}, buttons))


def lay_print(rng: np.random.Generator) -> Sheet:
    """As many words and numbers as a tile has room for, some on buttons or in fields: to be read alone."""
    style = draw_style(rng, dark=rng.random() < 0.2)
    boxes, texts, baseline = [], [], style.size + int(rng.integers(1, 8))
    while baseline < EDGE - 3:
        x = int(rng.integers(1, 14))
        while True:
            (number,), (word,) = draw_numbers(rng, 1), draw_words(rng, 1)
            words = number if rng.random() < NUMBERS else pick(rng, DAYS) if rng.random() < 0.2 else word
            width = round(font(style.size).getlength(words))
            if x + width + 3 > EDGE:
                break
            ink, look = style.ink, rng.random()
            if look < BOXED:
                fill, edge = (style.accent, None) if look < BOXED / 2 else (style.paper, style.faint)
                ink = WHITE if look < BOXED / 2 else ink
                boxes.append(Box(x - 3, baseline - 11, x + width + 3, baseline + 4, fill, edge))
            texts.append(Text(words, x, baseline, style.size, ink))
            x += width + int(rng.integers(7, 16))
        baseline += style.size + int(rng.integers(5, 9))
    return _sheet(style, boxes, texts, None)


def _heading(rng: np.random.Generator, style: Style, left: int, baseline: int) -> Text:
    return Text(pick(rng, TITLES), left, baseline, style.size + 1, style.ink)


def _sheet(style: Style, boxes: list[Box], texts: list[Text], content: object) -> Sheet:
    return Sheet(style.paper, tuple(boxes), tuple(texts), content, EDGE, EDGE)
