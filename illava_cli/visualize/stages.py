"""Stages: after each merge, which token every cell has become part of, and what the tokens receive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from illava_cli.reduction import Merge
from illava_cli.trace import CLIP, ENTER, FRAMES, INPUT, POOL, TOWER, Step
from illava_cli.visualize.way import NOWHERE, Way

DROPPED, PADDING, LEFT_OUT = -1, -2, -3
TOWER_NAMES = {None: "tower in", ENTER: "pixels", FRAMES: "frames", TOWER: "tower"}
BEHIND = {INPUT: "input", POOL: "pooled", CLIP: "clip"}  # what is done between the tower and the layout


@dataclass(frozen=True)
class Tokens:
    """P cells and the M visual tokens that they are part of.

    Args:
        slot: (P,) token of each cell, or how it is in none: `DROPPED`, `PADDING` for what is dropped of an
            image's padding, `LEFT_OUT` for what did not enter the tower.
        weight: (P,) its weight there, 0 where it is dropped.
        anchor: (M,) the cell whose place each token keeps; where that is a newline's, its heaviest cell.
        values: (M,) attention received, where that was traced; NaN where none can judge a token.
        total: the visual tokens there are: more than M where only some views are looked at.
    """

    slot: np.ndarray
    weight: np.ndarray
    anchor: np.ndarray
    values: np.ndarray | None = None
    total: int = 0

    @staticmethod
    def of(way: Merge, gone: np.ndarray, values: np.ndarray | None = None) -> Tokens:
        """The tokens of a `Way`'s step, without those that are no cell's: words and newlines.

        Args:
            gone: (P,) how each cell is in no token, where it is in none.
            values: of all the step's tokens.
        """
        slot, weight, anchor = (x[0].numpy() for x in (way.slot, way.weight, way.anchor))
        used = np.unique(slot[slot >= 0])
        number = np.full(len(anchor) + 1, DROPPED)
        number[used] = np.arange(len(used))
        slot = number[slot]
        anchor = anchor[used]
        for token in np.flatnonzero(anchor == NOWHERE):
            cells = np.flatnonzero(slot == token)
            anchor[token] = cells[weight[cells].argmax()]
        slot = np.where(slot < 0, gone, slot)
        return Tokens(slot, weight, anchor, None if values is None else values[used], len(used))

    def __len__(self) -> int:
        return len(self.anchor)

    def on_cells(self) -> np.ndarray:
        """(P,) the value of each cell's token; NaN where the cell is dropped."""
        return np.append(self.values, np.nan)[self.slot.clip(min=-1)]

    def counts(self) -> dict[str, int]:
        """What became of the cells; sums to P."""
        return {
            "kept": len(self),
            "merged": int((self.slot >= 0).sum()) - len(self),
            "dropped": int((self.slot == DROPPED).sum()),
            "padding": int((self.slot == PADDING).sum()),
            "left out": int((self.slot == LEFT_OUT).sum()),
        }


def ways_out(way: Way, padding: np.ndarray) -> np.ndarray:
    """(P,) how each cell is in no token, once it is in none; `padding` (P,) are those of an image's."""
    entered = np.ones(len(padding), bool)
    if (-1, ENTER) in way.steps:
        entered = way.in_tower[way.steps.index((-1, ENTER)) + 1].slot[0].numpy() >= 0
    return np.where(padding, PADDING, np.where(entered, DROPPED, LEFT_OUT))


@dataclass(frozen=True)
class Stage:
    """The tokens between two merges.

    Args:
        name: `tower in`, `pixels`, `frames, layer 3`, `tower, layer 5`, `input`, `pooled`, `clip`, what the
            layout did (`unpadded`, or else `LLM in`), `LLM, layer 8`.
        where: `tower`, `pool` (between the two) or `llm`.
        layer: the layer that merged, if one did.
        tokens: their values are what they receive in the last layer that runs on them, by which the
            next merge ranks them.
    """

    name: str
    where: str
    layer: int | None
    tokens: Tokens


def stages(way: Way, padding: np.ndarray) -> list[Stage]:
    """All stages in their order; none for an answer without media."""
    if not way.tower_merges:
        return []
    gone, found = ways_out(way, padding), []
    for step, tokens, following in zip([None, *way.steps], way.in_tower, [*way.steps, None], strict=True):
        if step == _into_layout(way) and step is not None:
            continue
        layer, what = step or (-1, None)
        if what in BEHIND:
            found.append(Stage(BEHIND[what], "pool", None, Tokens.of(tokens, gone)))
            continue
        name = f"{TOWER_NAMES[what]}, layer {layer}" if layer >= 0 else TOWER_NAMES[what]
        at = layer if layer >= 0 else None
        received = _between(way, step, following)
        found.append(Stage(name, "tower", at, Tokens.of(tokens, gone, received)))
    entering, *behind = way.in_prompt
    first = Tokens.of(entering, gone, _last_attention(way, 0))
    last = _into_layout(way)
    found.append(Stage(_layout_name(way) if last is None else BEHIND[last[1]], "pool", None, first))
    for number, (layer, step) in enumerate(zip(way.llm_layers, behind, strict=True), 1):
        tokens = Tokens.of(step, gone, _last_attention(way, number))
        found.append(Stage(f"LLM, layer {layer}", "llm", layer, tokens))
    return found


def kept(found: Sequence[Stage]) -> list[np.ndarray]:
    """(P,) by stage: which cells are drawn as kept.

    A cell is, while it anchors its token, or was alive when a pooling joined it with its anchor into one: a
    pooled token stands for all of its cells, not for the one that gives it its place.
    """
    count = len(found[0].tokens.slot) if found else 0
    alive, joint = np.ones(count, bool), np.arange(count)
    drawn = []
    for stage in found:
        slot, anchor = stage.tokens.slot, np.append(stage.tokens.anchor, NOWHERE)[stage.tokens.slot.clip(-1)]
        together = (anchor >= 0) & ((stage.name == "pooled") | (joint == joint[anchor]))
        alive = (slot >= 0) & ((anchor == np.arange(count)) | (alive & together))
        if stage.name == "pooled":
            joint = slot
        drawn.append(alive)
    return drawn


def _between(way: Way, step: Step | None, following: Step | None) -> np.ndarray | None:
    """What tokens receive in the tower's last layer between two steps; None where none runs on them.

    Tokens merge after a layer's attention, frames before it.
    """
    first, last = 0, way.trace["tower_layers"] - 1
    if step is not None:
        first = max(0, step[0] + (step[1] == TOWER))
    if following is not None:
        last = min(last, following[0] - (following[1] == FRAMES))
    return way.tower_attention(last) if first <= last else None


def _last_attention(way: Way, number: int) -> np.ndarray | None:
    """What the tokens after the decoder's first `number` merges receive, as the next one ranks them."""
    if number < len(way.llm_layers):
        return way.llm_ranking(way.llm_layers[number])
    last = max(way.trace["llm_attention"], default=0)
    return way.llm_attention(last) if last >= max(way.llm_layers, default=0) else None


def _into_layout(way: Way) -> Step | None:
    """The step that is shown with the layout after it: what each frame, or the clip, has become."""
    return way.steps[-1] if way.steps and way.steps[-1][1] in (POOL, CLIP) else None


def _layout_name(way: Way) -> str:
    """What the layout between tower and decoder does to the tokens, newlines aside."""
    joined = cut = False
    for layout in way.trace["layout"]:
        inside = layout.slot[layout.slot >= 0]
        joined |= len(torch.unique(inside)) < len(inside)
        cut |= len(inside) < layout.slot.shape[1]
    return "pooled" if joined else "unpadded" if cut else "LLM in"
