"""Time and peak memory of the tower over the number of frames, and the parts of a request, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from illava_cli.bench.text import PART_NAMES
from illava_cli.drawing import COLOURS, GREY, save, side_by_side

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, YELLOW = COLOURS
# by part, as they follow one another: merging is scoring's colour, hatched
PART_LOOKS = {
    "decode": (PURPLE, ""),
    "preprocess": (PURPLE, "///"),
    "tower": (BLUE, ""),
    "tower_scoring": (SKY, ""),
    "tower_merging": (SKY, "///"),
    "packing": (GREEN, ""),
    "prefill": (ORANGE, ""),
    "llm_scoring": (VERMILION, ""),
    "llm_merging": (VERMILION, "///"),
    "decoding": (YELLOW, ""),
    "other": (GREY, ""),
}


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


def plot_profile(results: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the results of `profile` to `path`: a bar for each variant, of the seconds of its parts."""
    figure, plots = side_by_side(len(results), title)
    for axes, result in zip(plots, results, strict=True):
        names = list(result["variants"])
        for part, (colour, hatch) in PART_LOOKS.items():
            before = [_seconds_before(result["variants"][name], part) for name in names]
            own = [result["variants"][name]["seconds"][part] for name in names]
            axes.barh(names, own, left=before, label=PART_NAMES[part], color=colour, hatch=hatch, ec="white")
        axes.invert_yaxis()
        axes.set(xlabel="seconds", title=result["medium"]["label"], xlim=(0, None))
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)


def _seconds_before(variant: dict[str, Any], part: str) -> float:
    """Seconds of the parts that stand before `part`."""
    return sum(variant["seconds"][name] for name in takewhile(lambda name: name != part, PART_LOOKS))
