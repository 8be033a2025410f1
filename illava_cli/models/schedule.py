"""A reduction resolved for one model and one kind of medium: `plan(reduction, shape, kind) -> Schedule`.

All that can be wrong with a schedule is said here, before anything is computed and without weights. A
`Schedule` is a value: what it says is what every pass has to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from illava_cli.config import (
    GuideStage,
    InputStage,
    LLMByMedium,
    LLMStage,
    Reduction,
    VisionByMedium,
    VisionStage,
    near_miss,
)
from illava_cli.errors import UsageError
from illava_cli.models.backends import BACKENDS
from illava_cli.reduction import METHODS, Method

KINDS = ("image", "video")


@dataclass(frozen=True)
class ScheduleShape:
    """What decides which schedules a model can run.

    Args:
        name: what people call it.
        own_preset: the shipped preset that was made for it.
        tower_layers, decoder_layers: how many are run.
        tile_tokens: tokens of a tile, of a tower over square tiles; None: it takes segments of any size,
            whose tokens are 2x2 groups.
        attention: the attention back end.
    """

    name: str
    own_preset: str
    tower_layers: int
    decoder_layers: int
    tile_tokens: int | None
    attention: str = "sdpa"


@dataclass(frozen=True)
class Stages:
    """The stages of a reduction for one kind of medium, each with the method that it runs; unchecked."""

    guide: GuideStage | None
    vision: VisionStage | None
    input: InputStage | None
    llm: LLMStage | None

    @property
    def act(self) -> bool:
        """Whether any of them says where it acts, if only on nothing."""
        return bool(self.guide or self.input or any(s and s.layers for s in (self.vision, self.llm)))


@dataclass(frozen=True)
class TowerBudget:
    """How many tokens leave at which tower layers: `r` of each tile, or a share of the 2x2 groups."""

    unit: Literal["r", "drop", "keep"]
    layers: tuple[int, ...]
    amounts: tuple[float, ...]

    @property
    def reduces(self) -> bool:
        """Whether any token may leave."""
        return any(amount != (1 if self.unit == "keep" else 0) for amount in self.amounts)

    def of(self, tokens: int) -> dict[int, int]:
        """Tokens removed at each layer from a segment of `tokens`.

        `keep` is rounded over all layers: behind each the nearest number to its share of all is left. `drop`
        is rounded down at each layer, as the authors' code does.
        """
        budget, left, share = {}, tokens, 1.0
        for layer, amount in zip(self.layers, self.amounts, strict=True):
            share *= amount
            if self.unit == "keep":
                budget[layer] = left - max(1, round(tokens * share))
            else:
                budget[layer] = int(amount) if self.unit == "r" else math.floor(amount * left)
            left -= budget[layer]
        return budget


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
    """

    budget: dict[int, int] = field(default_factory=dict)
    method: str = "illava"
    proportional: bool = False
    include_self: bool = False
    scored: int | None = None

    @property
    def reduces(self) -> bool:
        """Whether any token leaves in the tower or right after it."""
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
        tower: merging in the tower.
        tower_method, proportional: how.
        input: reduction between projector and decoder.
        decoder: merges in the decoder, by layer.
        scope: which visual tokens the decoder ranks together: a `medium`'s, or `all`.
        layout: `grid` or `faithful`.
        packed: survivors are numbered through in the decoder; else each keeps its place's position.
        authors: whether a token's own attention counts, and row newlines are ranked with it.
    """

    guide: GuideStage | None = None
    tower: TowerBudget | None = None
    tower_method: str = "illava"
    proportional: bool = False
    input: InputStage | None = None
    decoder: tuple[tuple[int, MergePoint], ...] = ()
    scope: str = "medium"
    layout: str = "grid"
    packed: bool = True
    authors: bool = False

    @property
    def reduces(self) -> bool:
        """Whether any stage does anything."""
        return bool(self.guide or self.input or self.decoder or (self.tower and self.tower.reduces))

    def in_tower(self, tokens: int, layers: int) -> TowerPlan:
        """For segments of `tokens` in a tower of `layers`."""
        return TowerPlan(
            budget=self.tower.of(tokens) if self.tower else {},
            method=self.tower_method,
            proportional=self.proportional,
            include_self=self.authors,
            scored=layers - 1 if self.input else None,
        )

    def after_tower(self, tokens: int) -> int:
        """Tokens of a segment that leave the tower."""
        return tokens - (sum(self.tower.of(tokens).values()) if self.tower else 0)

    def after_input(self, tokens: int) -> int | None:
        """Tokens of a segment that are laid out for the decoder; None: the method finds its own number."""
        left = self.after_tower(tokens)
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


def input_kept(tokens: int, keep: float) -> int:
    """How many of a segment's `tokens` stay between projector and decoder; one at least."""
    return max(1, min(round(tokens * keep), tokens))


def plan(reduction: Reduction, shape: ScheduleShape, kind: str) -> Schedule:
    """The schedule of a reduction for one kind of medium.

    Raises:
        UsageError: this model cannot run it.
    """
    stages = stages_of(reduction, kind)
    if stages.guide is not None:
        check_guide(stages.guide)
    tower = _tower(stages.vision, reduction, shape) if stages.vision else None
    decoder = _decoder(stages.llm, reduction.variant, shape.decoder_layers) if stages.llm else ()
    _check_input(stages.input, reduction)
    if shape.tile_tokens is None and reduction.positions == "packed":
        raise UsageError("positions 'packed' is for LLaVA: with M-RoPE survivors keep their own position")
    return Schedule(
        guide=stages.guide,
        tower=tower,
        tower_method=stages.vision.method if stages.vision else "illava",
        proportional=bool(stages.vision and stages.vision.proportional),
        input=stages.input,
        decoder=decoder,
        scope=stages.llm.scope if stages.llm else "medium",
        layout=reduction.layout,
        packed=(reduction.positions or ("packed" if reduction.layout == "grid" else "original")) == "packed",
        authors=reduction.variant == "authors",
    )


def stages_of(reduction: Reduction, kind: str) -> Stages:
    """A reduction's stages for one kind of medium.

    A method for the whole reduction replaces that of each stage which it has a meaning for; the others do
    nothing. The stage that is a method's only one need not be there.
    """
    guide, entry = reduction.guide, reduction.input
    vision, llm = reduction.vision, reduction.llm
    vision = getattr(vision, kind) if isinstance(vision, VisionByMedium) else vision
    llm = getattr(llm, kind) if isinstance(llm, LLMByMedium) else llm
    if reduction.method is None:
        return Stages(guide, vision, entry, llm)
    method = known_method(reduction.method)
    if "guide" in method.stages:
        guide = guide or GuideStage()
    if method.stages == ("input",):
        entry = entry or InputStage()
    queries = {"queries": method.queries or (llm and llm.queries)}

    def own(stage, name: str, **changed):
        meant = stage is not None and name in method.stages
        return stage.model_copy(update={"method": reduction.method, **changed}) if meant else None

    return Stages(own(guide, "guide"), own(vision, "vision"), own(entry, "input"), own(llm, "llm", **queries))


# --- the checks, a stage each -----------------------------------------------------------------------


def check_guide(stage: GuideStage) -> None:
    """Refuse a choice of frames and regions that can show nothing, or a method that makes none."""
    known_method(stage.method, "guide")
    if 0 in (stage.keep, stage.roi):
        raise UsageError("guide.keep and guide.roi: must be more than 0: something has to be seen")


def _tower(stage: VisionStage, reduction: Reduction, shape: ScheduleShape) -> TowerBudget:
    method = known_method(stage.method, "vision")
    if stage.proportional and not method.proportional:
        able = ", ".join(name for name, method in METHODS.items() if method.proportional)
        raise UsageError(f"vision.proportional: not defined for {stage.method!r}, but for {able}")
    if stage.proportional and BACKENDS[shape.attention].mask != "added":
        raise UsageError("vision.proportional: FlashAttention takes no sizes: give --attn sdpa")
    for layer in stage.layers:
        if layer >= shape.tower_layers:
            raise UsageError(
                f"vision.layers: {layer} is out of range: the tower runs layers 0 to {shape.tower_layers - 1}"
            )
    if shape.tile_tokens is None:
        budget = _shares(stage)
        if reduction.layout == "grid" and stage.layers:
            raise UsageError(
                f"layout 'grid' needs square tiles: {shape.name} takes preset auto, {shape.own_preset} or off"
            )
        return budget
    budget = _removed(stage, shape.tile_tokens)
    if reduction.layout == "grid":
        _check_grid(reduction, shape.tile_tokens - sum(budget.of(shape.tile_tokens).values()))
    return budget


def _removed(stage: VisionStage, tokens: int) -> TowerBudget:
    """Tokens removed from each tile."""
    for name in ("drop", "keep"):
        if getattr(stage, name) is not None:
            raise UsageError(
                f"vision.{name} is for Qwen2-VL and Qwen2.5-VL: "
                "give vision.r, the tokens removed per layer and tile"
            )
    budget = _ascending("r", stage.layers, per_layer(stage.r, stage.layers, "vision.r"))
    left = tokens
    for layer, r in budget.of(tokens).items():
        if r >= left:
            raise UsageError(
                f"vision.r: cannot remove {r} of the {left} tokens that a tile has at layer {layer}"
            )
        left -= r
    return budget


def _shares(stage: VisionStage) -> TowerBudget:
    """Shares of the 2x2 groups."""
    if stage.r is not None:
        raise UsageError(
            "vision.r is for models with tiles: give vision.drop, the fraction of 2x2 groups removed"
        )
    if stage.keep is None:
        budget = _ascending("drop", stage.layers, per_layer(stage.drop, stage.layers, "vision.drop"))
        for layer, drop in zip(budget.layers, budget.amounts, strict=True):
            if drop >= 1:
                raise UsageError(f"vision.drop: {drop:g} leaves no token at layer {layer}: give less than 1")
        return budget
    if stage.drop is not None:
        raise UsageError("vision.keep and vision.drop say the same thing: give one of them")
    budget = _ascending("keep", stage.layers, per_layer(stage.keep, stage.layers, "vision.keep"))
    for layer, keep in zip(budget.layers, budget.amounts, strict=True):
        if keep == 0:
            raise UsageError(f"vision.keep: 0 leaves no token at layer {layer}: give more")
    return budget


def _ascending(unit: str, layers: Sequence[int], amounts: Sequence[float]) -> TowerBudget:
    ordered = sorted(zip(layers, amounts, strict=True))
    return TowerBudget(unit, tuple(layer for layer, _ in ordered), tuple(amount for _, amount in ordered))


def _check_grid(reduction: Reduction, left: int) -> None:
    if reduction.positions == "original":
        raise UsageError("positions 'original' needs layout 'faithful': a re-formed grid has no places")
    root = math.isqrt(left)
    if root**2 != left:
        raise UsageError(
            f"vision.r leaves {left} tokens a tile, no square grid: remove so many that "
            f"{root**2} or {(root + 1) ** 2} remain, or set layout: faithful"
        )


def _decoder(stage: LLMStage, variant: str, layers: int) -> tuple[tuple[int, MergePoint], ...]:
    method = known_method(stage.method, "llm")
    keep = per_layer(stage.keep, stage.layers, "llm.keep")
    for layer in stage.layers:
        if not 1 <= layer < layers:
            raise UsageError(
                f"llm.layers: {layer} is out of range: tokens merge before layers 1 to {layers - 1}"
            )
    if variant == "authors" and stage.queries not in (None, "last"):
        raise UsageError("llm.queries: variant 'authors' ranks by the last token: set queries: last")
    if method.queries and stage.queries not in (None, method.queries):
        raise UsageError(f"llm.queries: method {stage.method!r} ranks by {method.queries!r}: leave it out")
    queries = stage.queries or method.queries or ("last" if variant == "authors" else "visual-literal")
    if any(k <= 0 for k in keep):
        raise UsageError("llm.keep: must be more than 0: at least one token has to stay")
    points = zip(stage.layers, keep, strict=True)
    return tuple((layer, MergePoint(k, stage.method, queries)) for layer, k in sorted(points) if k < 1)


def _check_input(stage: InputStage | None, reduction: Reduction) -> None:
    if stage is None:
        return
    if known_method(stage.method, "input").count is None and stage.keep is None:
        raise UsageError(f"input.keep is missing: say which share {stage.method!r} keeps")
    if stage.keep == 0:
        raise UsageError("input.keep: must be more than 0: at least one token has to stay")
    if reduction.layout == "grid":
        raise UsageError("input: its survivors keep their own place: set layout: faithful")


def known_method(name: str, stage: str | None = None) -> Method:
    """The method of that name; refused where it is not registered, or has no meaning for the stage."""
    here = [known for known, method in METHODS.items() if stage is None or stage in method.stages]
    if name not in METHODS:
        where = f"{stage}.method" if stage else "method"
        raise UsageError(
            f"{where}: unknown method {name!r}{near_miss(name, here)} (there are: {', '.join(here)})"
        )
    if name not in here:
        stages = " and ".join(METHODS[name].stages)
        raise UsageError(f"{stage}.method: {name!r} is for {stages} only (here: {', '.join(here)})")
    return METHODS[name]


def per_layer(value: float | list[float] | None, layers: list[int], name: str) -> list[float]:
    """One budget per layer, from one value or a list."""
    stage = name.partition(".")[0]
    if len(set(layers)) != len(layers):
        raise UsageError(f"{stage}.layers: a layer is named twice: {layers}")
    if value is None:
        if layers:
            raise UsageError(f"{name} is missing: say how many tokens the layers {layers} work with")
        return []
    values = value if isinstance(value, list) else [value] * len(layers)
    if len(values) != len(layers):
        raise UsageError(
            f"{name} has {len(values)} values for {len(layers)} layers: give one, or one a layer"
        )
    return values
