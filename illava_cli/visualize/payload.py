"""What the page shows, as one dictionary of plain values: the contract between Python and the page's script.

- version, title, prompt, model, preset, note (a list of lines).
- config: of the reduction, as YAML would hold it.
- answers: `merged`, and `plain` or null: text, usage, timings, memory (peak_bytes); `agreement` or null:
  same, first_difference, kl.
- media: kind, source, and views: label, src (a data URL), width, height.
- patches: one entry for each cell (a patch, or a group of them) of the views that are shown: medium,
  view (index among the medium's views here), box (x, y, width, height in pixels of the view's picture,
  beyond which padding lies) and padding (0 or 1).
- stages: name, where, layer, tokens, seconds; for each cell its slot (-1 dropped, -2 padding, -3
  not shown to the tower) and weight;
  for each slot its anchor (a cell; -1 where that is in a frame that is not shown) and attention.
- heat: name, where, layer, values: what each cell's token receives in a layer, null where it is dropped.
- shares: layers, and for each of them system, visual, instruction and other; or null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from illava_cli.trace import Trace
from illava_cli.visualize.attention import Heat, heat, shares, traced_layers
from illava_cli.visualize.pictures import Medium
from illava_cli.visualize.places import Places, places
from illava_cli.visualize.stages import Stage, Tokens, stages
from illava_cli.visualize.way import Way

VERSION = 1
HEAT_VALUES = 1_300_000  # that a page holds; of more layers every second, third, ... is left
WHERE_NAMES = {"tower": "tower", "llm": "LLM"}


@dataclass(frozen=True)
class LayerSeconds:
    """What each layer of tower and decoder took, in seconds: of all segments, and of the prefill."""

    tower: Sequence[float]
    llm: Sequence[float]


@dataclass(frozen=True)
class Drawn:
    """A traced answer beside its pictures, reduced to the views that are shown."""

    media: list[Medium]
    cells: Places  # `view` counts a medium's pictures
    stages: list[Stage]
    heat: list[Heat]
    shares: dict[str, list] | None
    notes: list[str]


def drawn(trace: Trace, media: list[Medium]) -> Drawn:
    """Stages, attention and places of what the pictures show.

    Args:
        media: from `read_media`.
    """
    where, way = places(trace), Way(trace)
    position = {(m, p.index): n for m, medium in enumerate(media) for n, p in enumerate(medium.pictures)}
    view = np.array([position.get(key, -1) for key in zip(where.medium, where.view, strict=True)], int)
    chosen = np.flatnonzero(view >= 0)
    cells = Places(where.medium[chosen], view[chosen], where.box[chosen], where.padding[chosen])
    layers = sum(map(len, traced_layers(way).values()))
    every = max(1, -(-layers * len(chosen) // HEAT_VALUES))
    return Drawn(
        media,
        cells,
        [replace(s, tokens=_subset(s.tokens, chosen)) for s in stages(way, where.padding)],
        [replace(m, values=m.values[chosen]) for m in heat(way, where.padding, every)],
        shares(way),
        [*_notes(trace, media), *([f"Heat maps are of every {_ordinal(every)} layer."] if every > 1 else [])],
    )


def payload(
    shown: Drawn,
    *,
    prompt: str,
    model: str,
    preset: str,
    config: dict[str, Any],
    answers: dict[str, Any],
    seconds: LayerSeconds | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The dictionary that is described above."""
    cells = shown.cells
    return {
        "version": VERSION,
        "title": ", ".join(name.rsplit("/", 1)[-1] for name in names_of(shown.media)),
        "prompt": prompt,
        "model": model,
        "preset": preset,
        "config": config,
        "note": [*shown.notes, *notes],
        "answers": answers,
        "media": [_medium(*named) for named in zip(shown.media, names_of(shown.media), strict=True)],
        "patches": {
            "medium": cells.medium.tolist(),
            "view": cells.view.tolist(),
            "box": boxes(shown).tolist(),
            "padding": cells.padding.astype(int).tolist(),
        },
        "stages": [
            _stage(stage, _seconds(shown.stages, number, seconds))
            for number, stage in enumerate(shown.stages)
        ],
        "heat": [
            {
                "name": f"{WHERE_NAMES[m.where]}, layer {m.layer}",
                "where": m.where,
                "layer": m.layer,
                "values": _plain(m.values),
            }
            for m in shown.heat
        ],
        "shares": shown.shares
        and {k: v if k == "layers" else [round(x, 4) for x in v] for k, v in shown.shares.items()},
    }


def names_of(media: Sequence[Medium]) -> list[str]:
    """What each is called: its source, or, where that is no name (bytes, a data URL), its kind and number."""
    kinds = [medium.kind for medium in media]

    def name(number: int, medium: Medium) -> str:
        if not medium.source.startswith("<"):
            return medium.source
        own = kinds[: number + 1].count(medium.kind)
        return f"{medium.kind} {own}" if kinds.count(medium.kind) > 1 else medium.kind

    return [name(*numbered) for numbered in enumerate(media)]


def boxes(shown: Drawn) -> np.ndarray:
    """(P, 4) the cells' boxes in pixels of their pictures."""
    found = shown.cells.box.copy()
    for number, medium in enumerate(shown.media):
        for index, picture in enumerate(medium.pictures):
            own = (shown.cells.medium == number) & (shown.cells.view == index)
            found[own] = picture.pixels(found[own])
    return found


def _ordinal(number: int) -> str:
    return f"{number}{({2: 'nd', 3: 'rd'}).get(number, 'th')}"


def _subset(tokens: Tokens, chosen: np.ndarray) -> Tokens:
    """The tokens that have any of the `chosen` cells; an anchor that is none of them becomes -1."""
    slot = tokens.slot[chosen]
    used = np.unique(slot[slot >= 0])
    number = np.full(len(tokens), -1)
    number[used] = np.arange(len(used))
    place = np.full(len(tokens.slot), -1)
    place[chosen] = np.arange(len(chosen))
    return Tokens(
        np.where(slot >= 0, number[slot], slot),
        tokens.weight[chosen],
        place[tokens.anchor[used]],
        None if tokens.values is None else tokens.values[used],
        total=tokens.total,
    )


def _notes(trace: Trace, media: list[Medium]) -> list[str]:
    notes = []
    for medium, name in zip(media, names_of(media), strict=True):
        if len(medium.pictures) < medium.views:
            notes.append(
                f"{name}: {len(medium.pictures)} of {medium.views} {medium.unit} are shown; "
                "the numbers of tokens count all."
            )
    if (side := math.isqrt(trace["patches_per_token"])) > 1:
        notes.append(f"A cell is a group of {side}x{side} patches, which merge as one.")
    return notes


def _medium(medium: Medium, name: str) -> dict[str, Any]:
    views = [
        {"label": p.label, "src": p.src(), "width": p.image.width, "height": p.image.height}
        for p in medium.pictures
    ]
    return {"kind": medium.kind, "source": name, "views": views}


def _stage(stage: Stage, seconds: float | None) -> dict[str, Any]:
    tokens = stage.tokens
    return {
        "name": stage.name,
        "where": stage.where,
        "layer": stage.layer,
        "tokens": tokens.total,
        "seconds": None if seconds is None else round(seconds, 6),
        "slot": tokens.slot.tolist(),
        "weight": tokens.weight.round(4).tolist(),
        "anchor": tokens.anchor.tolist(),
        "attention": None if tokens.values is None else _plain(tokens.values),
    }


def _seconds(found: list[Stage], number: int, seconds: LayerSeconds | None) -> float | None:
    """What the layers from a stage's own to the next one that merges took; None where none runs before."""
    stage, following = found[number], found[number + 1 : number + 2]
    in_tower = stage.where == "tower"
    passed_on = [s.layer is None and (s.where == "tower") == in_tower for s in following]
    if seconds is None or any(passed_on):
        return None
    taken = seconds.tower if in_tower else seconds.llm
    later = [s.layer for s in found[number + 1 :] if (s.where == "tower") == in_tower and s.layer is not None]
    return sum(taken[stage.layer or 0 : later[0] if later else None])


def _plain(values: np.ndarray) -> list[float | None]:
    """Four significant digits; None for NaN."""
    values = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (3 - np.floor(np.log10(np.abs(values))))
        rounded = np.where(np.isfinite(scale), np.round(values * scale) / scale, values)
    return [None if np.isnan(value) else value for value in rounded.tolist()]
