"""Measured figures as tables show them: three digits, and `-` where there is none. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby


def number(value: float | None) -> str:
    """Three digits."""
    return "-" if value is None else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """`3.21 s`, `12.4 ms`."""
    if value is None:
        return "-"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def megabytes(value: float | None) -> str:
    """Bytes as MB."""
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def stages(counts: Iterable[int]) -> str:
    """`729 -> 361 -> 253`: tokens at each stage, stages that change nothing left out."""
    return " -> ".join(str(count) for count, _ in groupby(counts))
