"""Figures, with matplotlib where it is installed (`pip install 'illava[plot]'`); all else runs without.

Colours are those that colour-blind people tell apart: Okabe and Ito's for names, viridis for values.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from illava_cli.errors import ModelError, OutputError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color universal design" (2008), without black, which is for references; yellow last, as it
# is faint on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#f0e442")
GREY = "#8b8f96"  # for what is left over
MARKERS = "osD^v"  # where there are more names than colours
VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
INSTALL = "--plot needs matplotlib: pip install 'illava[plot]'"


def has_matplotlib() -> bool:
    """Whether there is anything to draw figures with."""
    return importlib.util.find_spec("matplotlib") is not None


def check_plot(path: Path) -> None:
    """Refuse a plot that cannot be drawn, before anything is measured for it.

    Raises:
        ModelError: there is no matplotlib.
        UsageError: the ending of `path` is no format of a picture.
    """
    if not has_matplotlib():
        raise ModelError(INSTALL)
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise UsageError(f"--plot {path}: name a file that ends in {', '.join(f'.{k}' for k in known)}")


def looks() -> Iterator[dict[str, str]]:
    """Colour and marker for one name after another: they repeat after as many as both have together."""
    return itertools.cycle({"color": colour, "marker": marker} for marker in MARKERS for colour in COLOURS)


def side_by_side(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with `count` plots in a row, with grids, under one title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * count, 3.6), layout="constrained")
    plots = figure.subplots(1, count, squeeze=False)[0].tolist()
    for axes in plots:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.set_prop_cycle(color=COLOURS)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure, plots


def save(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`; the ending (.png, .svg, .pdf) decides the format.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from None
