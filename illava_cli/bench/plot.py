"""Time and peak memory of the tower over the number of frames, as a picture; matplotlib is optional."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illava_cli.errors import ModelError, OutputError

INSTALL = "--plot needs matplotlib: pip install 'illava[plot]'"


def check_plot() -> None:
    """Refuse a plot that cannot be drawn, before anything is measured for it.

    Raises:
        ModelError: there is no matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModelError(INSTALL)


def plot_tower(results: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the results of `tower` to `path`; the ending (.png, .svg, .pdf) decides the format."""
    check_plot()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    frames = [result["medium"].get("frames") or result["medium"]["tiles"] for result in results]
    for name in results[0]["variants"]:
        rows = [result["variants"][name] for result in results]
        seconds = [row["seconds"] for row in rows]
        medians = [s["median"] for s in seconds]
        below = [s["median"] - s["min"] for s in seconds]
        above = [s["max"] - s["median"] for s in seconds]
        time_axes.errorbar(frames, medians, yerr=(below, above), marker="o", capsize=3, label=name)
        if all(row["peak_bytes"] for row in rows):
            peaks = [row["peak_bytes"] / 1e6 for row in rows]
            memory_axes.plot(frames, peaks, marker="o", label=name)
    unit = "frames" if results[0]["medium"].get("frames") else "tiles"
    for axes, label in ((time_axes, "seconds"), (memory_axes, "peak beyond weights (MB)")):
        axes.set(xlabel=unit, ylabel=label, xticks=frames, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title, fontsize=10)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from None
