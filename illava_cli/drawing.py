"""Figures, with matplotlib where it is installed (`pip install 'illava[plot]'`); all else runs without."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from illava_cli.errors import ModelError, OutputError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = "--plot needs matplotlib: pip install 'illava[plot]'"


def check_plot(path: Path) -> None:
    """Refuse a plot that cannot be drawn, before anything is measured for it.

    Raises:
        ModelError: there is no matplotlib.
        UsageError: the ending of `path` is no format of a picture.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModelError(INSTALL)
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise UsageError(f"--plot {path}: name a file that ends in {', '.join(f'.{k}' for k in known)}")


def side_by_side(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with `count` plots in a row, with grids, under one title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * count, 3.6), layout="constrained")
    plots = figure.subplots(1, count, squeeze=False)[0].tolist()
    for axes in plots:
        axes.grid(alpha=0.3)
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
