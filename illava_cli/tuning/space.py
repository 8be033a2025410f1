"""The schedules that a search draws from, for one model and one kind of medium."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from illava_cli.config.presets import load_preset, preset_names
from illava_cli.config.stages import Reduction
from illava_cli.engine.shares import Point, llm_layer
from illava_cli.models.family import Family
from illava_cli.models.planning import stages_of
from illava_cli.reduction import METHODS

STAGES = ("pixels", "frames", "vision", "input", "llm")
KEEPS = (0.7, 0.5, 1 / 3, 0.25, 1 / 6, 0.1)
SPLITS = ("tower", "both", "llm", "input", "tower and input")
DEPTHS = (0.15, 0.3, 0.45, 0.65)  # of the tower, where it begins to merge
LLM_DEPTHS = (0.15, 0.3, 0.5)
SPANS = (2, 4)  # tower layers that merge
MERGING = ("illava", "attention-prune", "bipartite", "novelty-assign", "diversity-assign")
PIXELS = {
    "image": (
        *(None, None, None),
        {"tau": 0},
        {"tau": 0, "every": 2},
        {"tau": 0, "every": 3},
        {"tau": 4, "every": 2},
    ),
    "video": (None, None, {"tau": 8, "every": 2, "keep": 0.4}, {"tau": 8, "every": 2, "keep": 0.6}),
}
OFF, VARIANT = "off", "paper"
LABELS = {"keep": "patches"}


@dataclass(frozen=True)
class Genes:
    """What makes a schedule: a share of the visual tokens, and where and how the others leave.

    Args:
        keep: share that the decoder's last layers see.
        split: the stages that remove the rest.
        depth, span: of the tower, where it begins to merge as a share of its depth, and in how many layers.
        llm_depth: of the decoder.
        method: of the tower's merges, and of those after it.
        llm_method: of the decoder's.
        clip: method for a whole video after the tower; None for one frame at a time.
        pixels: the stage for patches that neighbours predict; None: all enter.
        frames: share of a video's frames that enters.
    """

    keep: float
    split: str
    depth: float
    span: int
    llm_depth: float
    method: str
    llm_method: str
    clip: str | None = None
    pixels: dict[str, float] | None = None
    frames: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """A schedule by the values of its stages, as a preset file holds them; others are off."""

    name: str
    kind: str
    stages: dict[str, Any]

    def settings(self, layout: list[str]) -> list[str]:
        """What makes it of preset `off` (`a.b=c`); `layout` says the rest."""
        return [
            f"preset={OFF}",
            *layout,
            *(f"{stage}={flow(value)}" for stage, value in self.stages.items()),
        ]


def layout_of(family: Family) -> list[str]:
    """Survivors keep their places, and their positions where that can be asked for (M-RoPE always does)."""
    positions = ["positions=original"] if family.schedule_shape.rope_axes == 1 else []
    return [f"variant={VARIANT}", "layout=faithful", *positions]


def shipped(family: Family, kind: str) -> Iterator[Candidate]:
    """The stages of the presets that are made for a model and keep survivors at their places.

    What a preset says beside them (media that are left whole, pictures taken as documents) is not part of it.
    """
    for name in preset_names():
        preset, key = load_preset(name), family.schedule_key
        fits = preset.families is None or key in preset.families
        reduction = (preset.by_family or {}).get(key, preset.reduction) if fits else None
        if reduction is None or reduction.layout == "grid" or reduction.guide is not None:
            continue
        if reduction.variant == VARIANT and (stages := _stages(reduction, kind)):  # preset off has none
            yield Candidate(f"as {name}", kind, stages)


def _stages(reduction: Reduction, kind: str) -> dict[str, Any]:
    found = stages_of(reduction, kind)
    values = {stage: getattr(found, stage) for stage in STAGES}
    return {
        stage: _of_kind(stage, kind, value.model_dump(mode="json", exclude_unset=True))
        for stage, value in values.items()
        if value is not None
    }


def draw(rng: random.Random, kind: str) -> Genes:
    """Any schedule."""
    video = kind == "video"
    return Genes(
        keep=rng.choice(KEEPS),
        split=rng.choice(SPLITS),
        depth=rng.choice(DEPTHS),
        span=rng.choice(SPANS),
        llm_depth=rng.choice(LLM_DEPTHS),
        method=rng.choice(MERGING),
        llm_method=rng.choice(MERGING),
        clip=rng.choice([None, *_clip_methods()]) if video else None,
        pixels=rng.choice(PIXELS[kind]),
        frames=rng.choice((1.0, 1.0, 0.5)) if video else 1.0,
    )


def neighbour(rng: random.Random, genes: Genes, kind: str) -> Genes:
    """The same schedule with one of its genes drawn anew."""
    other = draw(rng, kind)
    names = [name for name in genes.__dataclass_fields__ if getattr(other, name) != getattr(genes, name)]
    if not names:
        return genes
    name = rng.choice(names)
    return replace(genes, **{name: getattr(other, name)})


def express(genes: Genes, kind: str, family: Family) -> Candidate:
    """The schedule that genes make of a model; the model may still refuse it."""
    patches = (genes.pixels or {}).get("keep", 1.0)
    enters = min(genes.frames, patches)
    budget, stages, name = min(1.0, genes.keep / enters), {}, []
    if genes.frames < 1:
        stages["frames"] = {"method": "runs", "layers": [-1], "keep": genes.frames, "still": 3}
        name.append(f"frames {genes.frames:g}")
    if genes.pixels is not None:
        stages["pixels"] = genes.pixels
        name += [f"{LABELS.get(word, word)} {value}" for word, value in genes.pixels.items()]
        if patches < 1 and "frames" not in stages:  # as preset turbo does
            stages["frames"] = {"still": 3, "still_frames": 3}
    two = genes.split in ("both", "tower and input")
    first = budget ** (2 / 3) if two else budget  # as the paper's setting spends it
    tower, llm, entry = _shares(genes.split, first, budget)
    layers = _tower_layers(genes, family)
    before = tuple(llm_layer(family.schedule_shape, genes.llm_depth))
    point = Point(tower, layers if tower < 1 else (), llm, before if llm < 1 else ())
    for stage, text in point.stages(family, "faithful").items():
        if (value := yaml.safe_load(text)) is not None:
            method = genes.llm_method if stage == "llm" else genes.method
            value = {k: v for k, v in value.items() if v is not None} | {"method": method}
            # the last token knows the question: ahead of all visual ones (docs/accuracy/queries.md)
            stages[stage] = value | ({"queries": "last"} if stage == "llm" else {})
    if point.name:
        methods = [genes.method] * bool(point.vision_layers) + [genes.llm_method] * bool(point.llm_layers)
        name += [" and ".join(dict.fromkeys(methods)), point.name]
    if entry < 1:
        stages["input"] = {"method": genes.clip or genes.method, "keep": round(entry, 4)}
        name.append(f"{stages['input']['method']} input {entry:.2g}")
    ordered = {stage: _of_kind(stage, kind, stages[stage]) for stage in STAGES if stage in stages}
    return Candidate(" ".join(name), kind, ordered)


def _shares(split: str, first: float, budget: float) -> tuple[float, float, float]:
    """What tower, decoder and the stage between them keep."""
    rest = budget / first
    return {
        "tower": (budget, 1.0, 1.0),
        "llm": (1.0, budget, 1.0),
        "input": (1.0, 1.0, budget),
        "both": (first, rest, 1.0),
        "tower and input": (first, 1.0, rest),
    }[split]


def _tower_layers(genes: Genes, family: Family) -> tuple[int, ...]:
    depth = family.tower_layers
    start = min(max(1, round(depth * genes.depth)), depth - 1)
    return tuple(range(start, min(start + genes.span, depth)))


def _clip_methods() -> list[str]:
    return [name for name, method in METHODS.items() if method.clip is not None]


def _of_kind(stage: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    """Frames are a video's alone; the other stages may be of one kind of medium."""
    return value if stage == "frames" else {kind: value}


def flow(value: Any) -> str:
    """YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip()
