"""Shares of attention by layer of the decoder, as a picture (paper, figure 2c)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from illava_cli.drawing import GREY, save, side_by_side

# as on the page
LINES = {
    "visual": ("visual tokens", "#e69f00"),
    "system": ("system prompt", "#0072b2"),
    "instruction": ("instruction", "#56b4e9"),
    "other": ("other", GREY),
}


def plot_shares(shares: dict[str, list], merging: Sequence[int], path: Path) -> None:
    """Draw the shares that `attention.shares` gives to `path`; dotted lines are layers that merge."""
    figure, (axes,) = side_by_side(1, "attention of the last prompt token")
    for part, (name, colour) in LINES.items():
        percent = [100 * share for share in shares[part]]
        axes.plot(shares["layers"], percent, color=colour, marker="o", ms=3, label=name)
    for layer in merging:
        axes.axvline(layer, color="grey", ls=":", lw=1)
    axes.set(xlabel="layer of the LLM", ylabel="share (%)", ylim=(0, 102))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)
