"""The line of statistics and what it is made of."""

from __future__ import annotations

import pytest

from illava_cli.cli import render
from illava_cli.engine.record import Usage, VisualUsage
from tests.cli.fakes import generation


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((729, 361, 361, 253), "729 -> 361 -> 253"),
        ((729, 729, 729, 729), "729"),
        ((1024, 512, 128, 90), "1024 -> 512 -> 128 -> 90"),
    ],
)
def test_visual_stages(stages, expected):
    assert render.visual_stages(VisualUsage(*stages)) == expected


def test_statistics():
    assert render.statistics(generation()) == (
        "729 -> 361 -> 253 visual tokens | 12 tokens in 0.80 s | first token 0.31 s | peak 1.2 GB"
    )


def test_statistics_of_text_alone_that_was_cut():
    answer = generation(usage=Usage(9, 1), finish_reason="length", peak_bytes=0)
    assert render.statistics(answer) == "1 token in 0.80 s (stopped by --max-tokens) | first token 0.31 s"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.2e9, "1.2 GB"), (3e15, "3000.0 TB")],
)
def test_size(count, expected):
    assert render.size(count) == expected


def test_table():
    assert render.table(("A", "B"), [("long", "x"), ("y", "")]) == "A     B\nlong  x\ny"
