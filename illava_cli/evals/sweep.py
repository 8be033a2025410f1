"""A walk over how much is kept, and where, in the tower and in the decoder of the model at hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from illava_cli.engine.shares import Point, placed
from illava_cli.errors import UsageError
from illava_cli.evals.variants import OFF

if TYPE_CHECKING:
    from illava_cli.config.stages import Reduction
    from illava_cli.models.family import Family

# without a grid of the user's: shares kept, 1 for a stage that is left alone
VISION_KEEP, LLM_KEEP = (1.0, 0.7, 0.5, 1 / 3), (1.0, 0.7, 0.5)


@dataclass(frozen=True)
class Grid:
    """What is walked; an empty sequence stands for the default."""

    vision_keep: Sequence[float] = ()
    vision_layers: Sequence[Sequence[int]] = ()
    llm_keep: Sequence[float] = ()
    llm_layers: Sequence[Sequence[int]] = ()


def points(grid: Grid, family: Family, base: Reduction) -> list[Point]:
    """The schedules of a grid: every tower setting with every decoder setting.

    A grid for one stage only leaves the other unmerged. Layers that it does not name are those of `base`,
    or where the model cannot merge there, such as lie as deep as the published ones.
    """
    vision_given = any((grid.vision_keep, grid.vision_layers))
    llm_given = any((grid.llm_keep, grid.llm_layers))
    vision_keep = VISION_KEEP if vision_given or not llm_given else (1.0,)
    llm_keep = LLM_KEEP if llm_given or not vision_given else (1.0,)
    vision_layers, llm_layers = placed(family, base)
    tower = _stage(grid.vision_keep or vision_keep, grid.vision_layers or [vision_layers])
    decoder = _stage(grid.llm_keep or llm_keep, grid.llm_layers or [llm_layers])
    found = [Point(*vision, *llm) for vision, llm in itertools.product(tower, decoder)]
    return [point for point in dict.fromkeys(found) if point.vision_layers or point.llm_layers]


def _stage(keeps: Sequence[float], layers: Sequence[Sequence[int]]) -> list[tuple[float, tuple[int, ...]]]:
    """Each share at each choice of layers; where all is kept, layers make no difference."""
    return [
        (keep, tuple(sorted(where)) if keep < 1 else ()) for keep, where in itertools.product(keeps, layers)
    ]


def read_share(text: str, flag: str) -> float:
    """A share kept: `0.7` or `253/361`.

    Raises:
        UsageError: it is no number, or none from above 0 to 1.
    """
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not 0 < value <= 1:
        raise UsageError(f"{flag} {text}: expected a share above 0 and up to 1, such as 0.5 or 253/361")
    return value


def read_layers(text: str, flag: str) -> tuple[int, ...]:
    """Layers counted from 0: `2,3,4,5` or `2-5`.

    Raises:
        UsageError: they are no layers.
    """
    layers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            layers += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        layers = []
    if not layers or len(set(layers)) < len(layers):
        raise UsageError(f"{flag} {text}: expected layers such as 2,3,4,5 or 2-5, each once")
    return tuple(layers)


def frontier(report: dict[str, Any], walked: dict[str, Point], skipped: dict[str, str]) -> dict[str, Any]:
    """The section `sweep` of a report: each schedule with its place in the trade, and those left out.

    Args:
        walked: schedules by the names of their variants.
        skipped: why the model refused others.
    """
    rows = []
    for name, figures in report["all"]["variants"].items():
        if name in walked or name == OFF:
            point = walked.get(name)
            row = {"variant": name, "quality": quality(figures), **_schedule(point)}
            row["visual_tokens"] = figures["visual_tokens"]["llm_kept"] if figures["answered"] else None
            rows.append(row | {"seconds": figures["seconds"]})
    for row in rows:
        row["best"] = row["quality"] is not None and not any(_beats(other, row) for other in rows)
    measure = "accuracy" if report["all"]["variants"][OFF]["accuracy"] else "agreement"
    return {
        "quality": measure,
        "points": rows,
        "skipped": [{"variant": name, "why": why} for name, why in skipped.items()],
    }


def quality(figures: dict[str, Any]) -> float | None:
    """Accuracy; where nothing says what is right, agreement with the reference, which is 1 for itself."""
    if not figures["answered"]:
        return None
    if figures["accuracy"]:
        return figures["accuracy"]["value"]
    if "agreement" not in figures:
        return 1.0
    return figures["agreement"]["value"] if figures["agreement"] else None


def _schedule(point: Point | None) -> dict[str, Any]:
    vision, llm = (None, None) if point is None else (point.vision_layers, point.llm_layers)
    return {
        "vision": {"keep": point.vision_keep, "layers": list(vision)} if vision else None,
        "llm": {"keep": point.llm_keep, "layers": list(llm)} if llm else None,
    }


def _beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """No worse on fewer tokens, or better on no more of them."""
    if one["quality"] is None:
        return False
    better, fewer = one["quality"] - other["quality"], other["visual_tokens"] - one["visual_tokens"]
    return better >= 0 and fewer >= 0 and (better > 0 or fewer > 0)
