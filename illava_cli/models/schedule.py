"""What happens to a kind of medium in one model, as a value: what it says is what every pass has to do.

`models/planning.py` makes it of a reduction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from illava_cli.config.stages import GuideStage, InputStage, PixelsStage
from illava_cli.reduction import METHODS

KINDS = ("image", "video")
WINDOW = 64  # frames, or temporal patches, that are looked at together: memory does not grow with a clip
BUDGET_METHOD = "distinct"  # brings a clip within a number of tokens where no other method is named


@dataclass(frozen=True)
class ScheduleShape:
    """What decides which schedules a model can run.

    Args:
        name: what people call it.
        own_preset: the shipped preset that was made for it.
        tower_layers, decoder_layers: how many are run.
        tile_tokens: tokens of a tile, of a tower over square tiles; None: it takes segments of any size,
            whose tokens are groups of patches.
        rope_axes: 3 for M-RoPE.
        attention: the attention back end.
        linear: decoder layers of linear attention, where no token receives any that it could be ranked by.
        decoder_fixed: why nothing merges in the decoder; "" where it may.
    """

    name: str
    own_preset: str
    tower_layers: int
    decoder_layers: int
    tile_tokens: int | None
    rope_axes: int = 1
    attention: str = "sdpa"
    linear: tuple[int, ...] = ()
    decoder_fixed: str = ""

    @property
    def rankable(self) -> list[int]:
        """Decoder layers before which tokens can be ranked: the layer before each has attention over them."""
        layers = [] if self.decoder_fixed else range(1, self.decoder_layers)
        return [layer for layer in layers if layer - 1 not in self.linear]


@dataclass(frozen=True)
class TowerBudget:
    """How many tokens leave at which tower layers: `r` of each tile, or a share of the groups."""

    unit: Literal["r", "drop", "keep"]
    layers: tuple[int, ...]
    amounts: tuple[float, ...]

    @property
    def reduces(self) -> bool:
        """Whether any token may leave."""
        return any(amount != (1 if self.unit == "keep" else 0) for amount in self.amounts)

    def of(self, tokens: int, whole: int | None = None) -> dict[int, int]:
        """Tokens removed at each layer from a segment of `tokens`.

        `keep` is rounded over all layers: after each the nearest number to its share of all is left. `drop`
        is rounded down at each layer, as the authors' code does.

        Args:
            whole: tokens of a segment that `r` is meant for: one of fewer loses as many fewer.
        """
        budget, left, share = {}, tokens, 1.0
        part = 1.0 if whole is None else tokens / whole
        for layer, amount in zip(self.layers, self.amounts, strict=True):
            share *= amount
            if self.unit == "keep":
                budget[layer] = left - max(1, round(tokens * share))
            else:
                budget[layer] = math.floor(amount * (part if self.unit == "r" else left))
            left -= budget[layer]
        return budget


@dataclass(frozen=True)
class FramesBudget:
    """Which whole frames of a video leave, or merge with a neighbour.

    Args:
        layers: of the tower, before which frames merge, and the share that each leaves.
        pixels: the share that enters the tower.
        still: frames in a row that differ no more from their first stand still; None: none do.
        still_frames: how many of these enter.
    """

    method: str = "alike"
    layers: tuple[tuple[int, float], ...] = ()
    pixels: float = 1.0
    still: float | None = None
    still_frames: int = 1

    def of(self, frames: int) -> dict[int, int]:
        """How many of so many frames are left from which layer on."""
        left = {}
        for layer, keep in self.layers:
            left[layer] = frames = max(1, round(frames * keep))
        return left


@dataclass(frozen=True)
class MergePoint:
    """A merge before a decoder layer."""

    keep: float
    method: str = "illava"
    queries: str = "last"

    def kept(self, n: int) -> int:
        """How many of a group's `n` tokens stay."""
        return METHODS[self.method].left(n, self.keep)


@dataclass(frozen=True)
class TowerPlan:
    """A tower schedule for segments of one length.

    Args:
        budget: tokens removed, by layer.
        method: name of the method.
        proportional: attention counts a merged token as often as it stands for others (ToMe, eq. 1).
        include_self: whether a patch's attention to itself counts (variant `authors`).
        scored: a layer that gives scores and keys though it may not merge, for a reduction after the tower.
        frames: segments that are left before a layer, by layer, and the method by which they merge.
    """

    budget: dict[int, int] = field(default_factory=dict)
    method: str = "illava"
    proportional: bool = False
    include_self: bool = False
    scored: int | None = None
    frames: dict[int, int] = field(default_factory=dict)
    frame_method: str = "alike"

    @property
    def reduces(self) -> bool:
        """Whether any token of a segment leaves in the tower or right after it."""
        return any(self.budget.values()) or self.scored is not None

    @property
    def deepest(self) -> int:
        """The last layer that is scored; -1 where none is."""
        scored = [] if self.scored is None else [self.scored]
        return max([layer for layer, r in self.budget.items() if r] + scored, default=-1)


@dataclass(frozen=True)
class Schedule:
    """What happens to a kind of medium, from its pixels to the deepest decoder layer; by default nothing.

    Args:
        guide: a second checkpoint that chooses what the tower is shown.
        pixels: patches that do not enter it, as their neighbours tell them.
        frames: whole frames that leave.
        tower: merging in the tower.
        tower_method, proportional: how.
        input: reduction between projector and decoder, of each segment's tokens.
        clip: the same of all a video's tokens.
        decoder: merges in the decoder, by layer.
        scope: which visual tokens the decoder ranks together: a `medium`'s, or `all`.
        layout: `grid` or `faithful`.
        packed: survivors are numbered through in the decoder; else each keeps its place's position.
        authors: whether a token's own attention counts, and row newlines are ranked with it.
    """

    guide: GuideStage | None = None
    pixels: PixelsStage | None = None
    frames: FramesBudget | None = None
    tower: TowerBudget | None = None
    tower_method: str = "illava"
    proportional: bool = False
    input: InputStage | None = None
    clip: InputStage | None = None
    decoder: tuple[tuple[int, MergePoint], ...] = ()
    scope: str = "medium"
    layout: str = "grid"
    packed: bool = False
    authors: bool = False

    @property
    def reduces(self) -> bool:
        """Whether any stage does anything."""
        before = self.guide or self.pixels or self.frames
        return bool(before or self.input or self.clip or self.decoder or (self.tower and self.tower.reduces))

    def in_tower(
        self, tokens: int, layers: int, *, frames: int = 0, whole: int | None = None, ranked: bool = False
    ) -> TowerPlan:
        """For segments of `tokens` in a tower of `layers`.

        Args:
            frames: how many they are, where whole ones may merge.
            whole: tokens of a segment of which pixels have kept none out.
            ranked: what leaves the tower is ranked by attention, whatever becomes of it.
        """
        return TowerPlan(
            budget=self.budget(tokens, whole),
            method=self.tower_method,
            proportional=self.proportional,
            include_self=self.authors,
            scored=layers - 1 if self.input or self.clip or ranked else None,
            frames=self.frames.of(frames) if self.frames else {},
            frame_method=self.frames.method if self.frames else "alike",
        )

    def budget(self, tokens: int, whole: int | None = None) -> dict[int, int]:
        """Tokens removed at each layer from a segment; `whole` as for `in_tower`."""
        return self.tower.of(tokens, whole) if self.tower else {}

    def after_tower(self, tokens: int, whole: int | None = None) -> int:
        """Tokens of a segment that leave the tower."""
        return tokens - sum(self.budget(tokens, whole).values())

    def frames_left(self, frames: int) -> list[int]:
        """How many of each window's leave the tower."""
        if self.frames is None or not self.frames.layers:
            return windows(frames)
        return [[*self.frames.of(n).values()][-1] for n in windows(frames)]

    def clip_kept(self, tokens: int, most: int | None = None) -> int | None:
        """How many of a whole video's tokens stay between projector and decoder; None: all.

        Args:
            most: what the video may have of them.
        """
        kept = tokens if self.clip is None else input_kept(tokens, self.clip.keep)
        kept = kept if most is None else min(kept, max(1, most))
        return None if kept == tokens and self.clip is None else kept

    @property
    def clip_method(self) -> str:
        return BUDGET_METHOD if self.clip is None else self.clip.method

    def after_input(self, tokens: int, whole: int | None = None) -> int | None:
        """Tokens of a segment that are laid out for the decoder; None: the method finds its own number."""
        left = self.after_tower(tokens, whole)
        if self.input is None:
            return left
        return None if self.input.keep is None else input_kept(left, self.input.keep)

    def decoder_tokens(self, text: int, media: Sequence[tuple[int, int]], layers: int) -> list[int]:
        """Tokens of a prompt in each of so many decoder layers.

        Args:
            text: all that is no medium's.
            media: of each its decoder tokens, and how many of them may merge.
        """
        groups = [candidates for _, candidates in media]
        fixed = text + sum(tokens for tokens, _ in media) - sum(groups)
        groups = groups if self.scope == "medium" else [sum(groups)]
        points, lengths = dict(self.decoder), []
        for layer in range(layers):
            if layer in points:
                groups = [points[layer].kept(n) for n in groups]
            lengths.append(fixed + sum(groups))
        return lengths


def windows(frames: int) -> list[int]:
    """A clip's frames as they are looked at together: as even parts as can be of at most `WINDOW`."""
    parts = -(-frames // WINDOW)
    return [frames * (n + 1) // parts - frames * n // parts for n in range(parts)]


def input_kept(tokens: int, keep: float) -> int:
    """How many of a segment's `tokens` stay between projector and decoder; one at least."""
    return max(1, min(round(tokens * keep), tokens))
