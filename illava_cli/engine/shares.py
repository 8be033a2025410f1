"""A share of the visual tokens as a schedule: how much of it is spent in the tower, how much in the decoder.

A method for both spends it in both, as the paper's setting does (729 -> 361 -> 253: two thirds of the
reduction, in logarithms, in the tower); one for the decoder alone spends all of it there. A guided one spends
it on pixels: of a LLaVA's tiles, or of its frames, only whole ones can leave. One for frames spends it where
the tower would merge first. Without a method it is spent where a preset merges, by its own methods.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from illava_cli.config.presets import BUDGETS

if TYPE_CHECKING:
    from illava_cli.config.stages import LLMStage, Reduction, VisionStage
    from illava_cli.models.family import Family
    from illava_cli.models.planning import Stages
    from illava_cli.models.schedule import ScheduleShape

# the published layers, as shares of the depth: 5-8 of LLaVA-OneVision's 26, 8 of Qwen2-7B's 28
VISION_START, VISION_COUNT, LLM_AT = 5 / 26, 4, 8 / 28
IN_TOWER = 2 / 3  # ln(361 / 729) / ln(253 / 729) = 0.66


def share_settings(family: Family, base: Reduction, method: str | None, keep: float) -> list[str]:
    """What makes `method` of a preset, at the preset's layers, so that the share `keep` remains.

    Args:
        method: None: each stage of the preset has its own, and the share is spent in these.

    Raises:
        UsageError: no such method.
    """
    if method is None:
        image, video = (_own_stages(family, base, kind, keep) for kind in ("image", "video"))
        return _settings(image, video)
    from illava_cli.models.planning import known_method  # brings torch: mistakes in flags are told before

    stages = known_method(method).stages
    found = [f"method={method}"]
    if stages in (("guide",), ("input",)):
        return [*found, f"{stages[0]}={{keep: {keep!r}}}", "vision=null", "llm=null"]
    if stages == ("frames",):
        first = placed(family, base, "video")[0][0]
        return [*found, f"frames={{layers: [{first}], keep: {keep!r}}}", "vision=null", "llm=null"]
    image, video = (
        _point(family, base, kind, stages, keep).stages(family, base.layout) for kind in ("image", "video")
    )
    return found + _settings(image, video)


def _settings(image: dict[str, str], video: dict[str, str]) -> list[str]:
    """Values of stages for both kinds of medium, as settings."""
    return [
        f"{stage}={value if value == video[stage] else f'{{image: {value}, video: {video[stage]}}}'}"
        for stage, value in image.items()
    ]


def _own_stages(family: Family, base: Reduction, kind: str, keep: float) -> dict[str, str]:
    """A share spent where the reduction merges such media, by the methods that it has there; where it merges
    them nowhere, as the default method does.
    """
    from illava_cli.models.planning import stages_of  # as above

    merging = stages_of(base, kind)
    own = {
        name: stage for name in ("vision", "input", "llm") if (stage := getattr(merging, name)) is not None
    }
    merges = [name for name in ("vision", "llm") if name in own]
    keep = min(1.0, keep / _entering(merging))
    if "input" in own and not merges:
        values = {"vision": "null", "llm": "null", "input": f"{{keep: {keep!r}}}"}
    else:
        values = _point(family, base, kind, merges or ("vision", "llm"), keep).stages(family, base.layout)
        values["input"] = "null"
    for name, stage in own.items():
        said = stage.model_dump(exclude_unset=True, exclude={"layers", *BUDGETS})
        if values[name] != "null" and said:
            values[name] = f"{json.dumps(said)[:-1]}, {values[name][1:]}"
    return values


def _entering(merging: Stages) -> float:
    """The share of a medium, at most, that its stages `frames` and `pixels` leave."""
    pixels, frames = merging.pixels, merging.frames
    most = 1.0 if pixels is None or pixels.keep is None else pixels.keep
    if frames is None or frames.keep is None:
        return most
    keep = frames.keep
    return min(most, math.prod(keep) if isinstance(keep, list) else keep ** len(frames.layers))


def _point(family: Family, base: Reduction, kind: str, stages: Sequence[str], keep: float) -> Point:
    """A share spent where a method has a meaning, at the layers at which `base` merges a kind of medium."""
    vision_layers, llm_layers = placed(family, base, kind)
    both = {"vision", "llm"} <= set(stages) and bool(llm_layers)
    tower = keep**IN_TOWER if both else keep
    decoder = keep / tower if both else keep
    return Point(
        tower if "vision" in stages else 1.0,
        tuple(vision_layers) if "vision" in stages else (),
        decoder if "llm" in stages else 1.0,
        tuple(llm_layers) if "llm" in stages else (),
    )


@dataclass(frozen=True)
class Point:
    """One schedule of a walk: shares kept, and the layers that merge; 1 and no layers where nothing does."""

    vision_keep: float
    vision_layers: tuple[int, ...]
    llm_keep: float
    llm_layers: tuple[int, ...]

    @property
    def name(self) -> str:
        """`tower 0.33 at 1-4, LLM 0.7 at 2`."""
        parts = []
        for stage, keep, layers in (
            ("tower", self.vision_keep, self.vision_layers),
            ("LLM", self.llm_keep, self.llm_layers),
        ):
            if layers:
                parts.append(f"{stage} {keep:.2g} at {_layers(layers)}")
        return ", ".join(parts)

    def settings(self, family: Family, layout: str) -> list[str]:
        """What makes this schedule of any preset (`a.b=c`)."""
        return [f"{name}={stage}" for name, stage in self.stages(family, layout).items()]

    def stages(self, family: Family, layout: str) -> dict[str, str]:
        """The values of `vision` and `llm`."""
        tower = decoder = "null"
        if self.vision_layers:
            tower = _tower(family, self.vision_keep, self.vision_layers, layout)
        if self.llm_layers:
            keep = self.llm_keep ** (1 / len(self.llm_layers))  # at each layer, of what is left
            decoder = f"{{layers: {list(self.llm_layers)}, keep: {keep!r}}}"
        return {"vision": tower, "llm": decoder}


def placed(family: Family, base: Reduction, kind: str = "image") -> tuple[list[int], list[int]]:
    """Where `base` merges in tower and decoder, or where layers lie as deep as the published ones."""
    depth, shape = family.tower_layers, family.schedule_shape
    from illava_cli.models.planning import stages_of  # brings torch: mistakes in flags are told before

    stages, other = stages_of(base, kind), stages_of(base, "video" if kind == "image" else "image")
    start = max(1, round(depth * VISION_START))
    return (
        _layers_of(stages.vision, range(depth))
        or _layers_of(other.vision, range(depth))
        or list(range(start, min(start + VISION_COUNT, depth))),
        _layers_of(stages.llm, shape.rankable) or _layers_of(other.llm, shape.rankable) or llm_layer(shape),
    )


def _layers_of(stage: VisionStage | LLMStage | None, able: Container[int]) -> list[int]:
    """Where a schedule merges; nowhere if the model cannot merge at each of these layers."""
    layers = stage.layers if stage is not None else []
    return layers if all(layer in able for layer in layers) else []


def llm_layer(shape: ScheduleShape, depth: float = LLM_AT) -> list[int]:
    """The layer so deep (default: as the published one), or of those before which tokens can be ranked the
    nearest to it, if there are any.
    """
    wanted = max(1, round(shape.decoder_layers * depth))
    return sorted(shape.rankable, key=lambda layer: abs(layer - wanted))[:1]


def _tower(family: Family, keep: float, layers: Sequence[int], layout: str) -> str:
    """The tower's schedule that leaves the share `keep` after all of `layers`."""
    tokens = family.tile_tokens
    if tokens is None:  # no tiles: a share of the groups leaves at each layer
        return f"{{layers: {list(layers)}, keep: {keep ** (1 / len(layers))!r}, drop: null, r: null}}"
    kept = max(1, round(keep * tokens))
    if layout == "grid":  # survivors form a square
        kept = max(1, round(math.sqrt(kept))) ** 2
    each, rest = divmod(tokens - kept, len(layers))
    r = [each + (i < rest) for i in range(len(layers))]
    return f"{{layers: {list(layers)}, r: {r}, drop: null, keep: null}}"


def _layers(layers: Sequence[int]) -> str:
    """`2-5` for neighbours, else `2,4`."""
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ",".join(map(str, layers))
