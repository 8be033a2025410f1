"""Time and peak memory of the tower over the number of frames, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illava_cli.drawing import save, side_by_side


def plot_tower(results: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the results of `tower` to `path`."""
    figure, (time_axes, memory_axes) = side_by_side(2, title)
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
        axes.legend()
    save(figure, path)
