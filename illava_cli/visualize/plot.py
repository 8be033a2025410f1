"""Shares of attention by layer of the decoder, as a picture (paper, figure 2c)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from illava_cli.drawing import save, side_by_side
from illava_cli.visualize.attention import PARTS

NAMES = {"system": "system prompt", "visual": "visual tokens", "instruction": "instruction", "other": "other"}


def plot_shares(shares: dict[str, list], merging: Sequence[int], path: Path) -> None:
    """Draw the shares that `attention.shares` gives to `path`; dotted lines are layers that merge."""
    figure, (axes,) = side_by_side(1, "attention of the last prompt token")
    for part in PARTS:
        axes.plot(shares["layers"], [100 * x for x in shares[part]], marker="o", ms=3, label=NAMES[part])
    for layer in merging:
        axes.axvline(layer, color="grey", ls=":", lw=1)
    axes.set(xlabel="layer of the LLM", ylabel="share (%)", ylim=(0, 100))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    save(figure, path)
