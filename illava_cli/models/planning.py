"""A reduction resolved for one model and one kind of medium: `plan(reduction, shape, kind) -> Schedule`.

All that can be wrong with a schedule is said here, before anything is computed and without weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from illava_cli.config.stages import (
    BY_MEDIUM,
    FramesStage,
    GuideStage,
    InputStage,
    LLMStage,
    PixelsStage,
    Reduction,
    VisionStage,
)
from illava_cli.errors import UsageError
from illava_cli.models.backends import BACKENDS
from illava_cli.models.schedule import FramesBudget, MergePoint, Schedule, ScheduleShape, TowerBudget
from illava_cli.reduction import METHODS, Method
from illava_cli.text import near_miss


@dataclass(frozen=True)
class Stages:
    """The stages of a reduction for one kind of medium, each with the method that it runs; unchecked."""

    guide: GuideStage | None
    pixels: PixelsStage | None
    frames: FramesStage | None
    vision: VisionStage | None
    input: InputStage | None
    llm: LLMStage | None

    @property
    def act(self) -> bool:
        """Whether any of them says where it acts, if only on nothing."""
        named = any(s and s.layers for s in (self.frames, self.vision, self.llm))
        still = self.frames is not None and self.frames.still is not None
        return bool(self.guide or self.pixels or self.input or named or still)


def plan(reduction: Reduction, shape: ScheduleShape, kind: str) -> Schedule:
    """The schedule of a reduction for one kind of medium.

    Raises:
        UsageError: this model cannot run it.
    """
    stages = stages_of(reduction, kind)
    _check_fixed(stages.llm, reduction, shape)
    if stages.guide is not None:
        check_guide(stages.guide)
    tower = _tower(stages.vision, reduction, shape) if stages.vision else None
    _check_pixels(stages, reduction)
    frames = _frames(stages, shape) if stages.frames else None
    decoder = _decoder(stages.llm, reduction.variant, shape) if stages.llm else ()
    _check_input(stages.input, reduction)
    over_clip = stages.input is not None and METHODS[stages.input.method].clip is not None
    if shape.rope_axes > 1 and reduction.positions == "packed":
        raise UsageError("positions 'packed' is not for M-RoPE, where survivors keep their own position")
    return Schedule(
        guide=stages.guide,
        pixels=stages.pixels,
        frames=frames,
        tower=tower,
        tower_method=stages.vision.method if stages.vision else "illava",
        proportional=bool(stages.vision and stages.vision.proportional),
        input=None if over_clip else stages.input,
        clip=stages.input if over_clip else None,
        decoder=decoder,
        scope=stages.llm.scope if stages.llm else "medium",
        layout=reduction.layout,
        # a re-formed grid has no gaps to close: the places in it are consecutive, but for what a clip loses
        packed=reduction.positions == "packed",
        authors=reduction.variant == "authors",
    )


def stages_of(reduction: Reduction, kind: str) -> Stages:
    """A reduction's stages for one kind of medium.

    A method for the whole reduction replaces that of each stage which it has a meaning for; the others do
    nothing. The stage that is a method's only one need not be there.
    """

    def of_kind(stage):
        return getattr(stage, kind) if isinstance(stage, BY_MEDIUM) else stage

    guide, frames = reduction.guide, reduction.frames if kind == "video" else None
    pixels, vision, entry, llm = map(
        of_kind, (reduction.pixels, reduction.vision, reduction.input, reduction.llm)
    )
    if reduction.method is None:
        return Stages(guide, pixels, frames, vision, _of_clips(entry, kind), llm)
    method = known_method(reduction.method)
    if "guide" in method.stages:
        guide = guide or GuideStage()
    if method.stages == ("input",):
        entry = entry or InputStage()
    queries = {"queries": method.queries or (llm and llm.queries)}

    def own(stage, name: str, **changed):
        meant = stage is not None and name in method.stages
        return stage.model_copy(update={"method": reduction.method, **changed}) if meant else None

    entry = _of_clips(own(entry, "input"), kind)
    # `still` alone merges nothing: no method is for it
    still_alone = (
        frames is not None and frames.still is not None and not frames.layers and frames.keep is None
    )
    frames = None if still_alone else own(frames, "frames")
    return Stages(own(guide, "guide"), None, frames, own(vision, "vision"), entry, own(llm, "llm", **queries))


def _of_clips(stage: InputStage | None, kind: str) -> InputStage | None:
    """A method for whole videos does nothing to images."""
    method = METHODS.get(stage.method) if stage is not None else None
    return None if method is not None and method.clip is not None and kind == "image" else stage


# --- the checks, a stage each -----------------------------------------------------------------------


def _check_pixels(stages: Stages, reduction: Reduction) -> None:
    if stages.pixels is None:
        return
    if stages.pixels.keep == 0:
        raise UsageError("pixels.keep: must be more than 0: something has to be seen")
    if reduction.layout == "grid":
        raise UsageError("pixels: its survivors keep their own place: set layout: faithful")
    if stages.frames is not None and any(layer >= 0 for layer in stages.frames.layers):
        raise UsageError(
            "pixels: frames that merge within the tower have all of their patches: set "
            "frames.layers: [-1], or pixels: null"
        )


def _frames(stages: Stages, shape: ScheduleShape) -> FramesBudget:
    stage = stages.frames
    known_method(stage.method, "frames")
    if stage.keep is not None and not stage.layers:
        raise UsageError("frames.keep: set frames.layers, before which frames merge; -1 is in the pixels")
    if stage.still_frames > 1 and stage.still is None:
        raise UsageError("frames.still_frames: set frames.still, what stands still")
    shares = dict(zip(stage.layers, per_layer(stage.keep, stage.layers, "frames.keep"), strict=True))
    if 0 in shares.values():
        raise UsageError("frames.keep: must be more than 0: at least one frame has to stay")
    first = min(stages.vision.layers, default=shape.tower_layers) if stages.vision else shape.tower_layers
    for layer in shares:
        if layer >= shape.tower_layers:
            raise UsageError(
                f"frames.layers: {layer} is out of range: the tower runs layers 0 to {shape.tower_layers - 1}"
            )
        if layer > first:
            raise UsageError(
                f"frames.layers: before layer {layer} frames have lost tokens of their own, at {first}: name "
                f"layers up to {first}"
            )
    if shares and stages.input is not None and stages.input.keep is None:
        raise UsageError(f"frames: {stages.input.method} finds its own number of tokens: set input.keep")
    inside = tuple((layer, keep) for layer, keep in sorted(shares.items()) if layer >= 0)
    return FramesBudget(stage.method, inside, shares.get(-1, 1.0), stage.still, stage.still_frames)


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
                f"vision.{name} is for models that merge groups of patches: "
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
    """Shares of the groups."""
    if stage.r is not None:
        raise UsageError(
            "vision.r is for models with tiles: give vision.drop, the fraction of groups removed"
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


def _decoder(stage: LLMStage, variant: str, shape: ScheduleShape) -> tuple[tuple[int, MergePoint], ...]:
    method, layers = known_method(stage.method, "llm"), shape.decoder_layers
    keep = per_layer(stage.keep, stage.layers, "llm.keep")
    for layer in stage.layers:
        if not 1 <= layer < layers:
            raise UsageError(
                f"llm.layers: {layer} is out of range: tokens merge before layers 1 to {layers - 1}"
            )
        if layer - 1 in shape.linear:
            near = sorted(sorted(shape.rankable, key=lambda one: abs(one - layer))[:2])
            raise UsageError(
                f"llm.layers: tokens cannot be ranked before {layer}, as layer {layer - 1} has linear "
                f"attention: name {' or '.join(map(str, near))}"
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


def _check_fixed(stage: LLMStage | None, reduction: Reduction, shape: ScheduleShape) -> None:
    """Refuse what merges in a decoder in which nothing does, and a method that would do nothing elsewhere."""
    only = reduction.method is not None and METHODS[reduction.method].stages == ("llm",)
    if shape.decoder_fixed and (only or (stage is not None and stage.layers)):
        raise UsageError(
            f"llm: nothing merges in the decoder of {shape.name}, as {shape.decoder_fixed}: reduce in its "
            f"tower or before the decoder (llm=null; preset {shape.own_preset})"
        )


def _check_input(stage: InputStage | None, reduction: Reduction) -> None:
    if stage is None:
        return
    if known_method(stage.method, "input").count is None and stage.keep is None:
        raise UsageError(f"input.keep is missing: say which share {stage.method!r} keeps")
    if stage.keep == 0:
        raise UsageError("input.keep: must be more than 0: at least one token has to stay")
    if reduction.layout == "grid" and METHODS[stage.method].clip is None:
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
