"""Configuration: pydantic models <-> YAML, and the order in which sources override one another.

Command line > `ILLAVA_*` environment > YAML > defaults. A preset is a named reduction; the fields
`variant`, `layout`, `positions`, `method`, `guide`, `vision`, `input` and `llm` beside it override parts
of it. Unknown keys are errors that name the near miss. This module imports no torch, so that
`illava --help` stays fast.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from illava_cli.errors import UsageError
from illava_cli.families import family_name
from illava_cli.text import decoded

M = TypeVar("M", bound=BaseModel)

PACKAGE = Path(__file__).parent

ENVIRONMENT = {
    "ILLAVA_MODEL": "model.id",
    "ILLAVA_PRESET": "preset",
    "ILLAVA_DEVICE": "model.device",
    "ILLAVA_DTYPE": "model.dtype",
    "ILLAVA_ATTN": "model.attn",
    "ILLAVA_QUANTIZATION": "model.quantization",
    "ILLAVA_DEVICE_MAP": "model.device_map",
    "ILLAVA_VIDEO_BACKEND": "media.video_backend",
    "ILLAVA_NUM_FRAMES": "media.num_frames",
    "ILLAVA_MAX_TILES": "media.max_tiles",
    "ILLAVA_MAX_MEGAPIXELS": "media.max_megapixels",
    "ILLAVA_TILE_EACH": "media.tile_each",
    "ILLAVA_MEDIA_TIMEOUT": "media.media_timeout",
    "ILLAVA_MAX_TOKENS": "generation.max_tokens",
    "ILLAVA_TEMPERATURE": "generation.temperature",
    "ILLAVA_SEED": "generation.seed",
}

LONGEST_S = 10_000_000  # a time limit; timers take little more


class Strict(BaseModel):
    """Unknown keys are errors; instances are values and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuse true and false where a number is wanted: they would count as 1 and 0."""
        wanted = cls.model_fields[field.field_name].annotation
        values = value if isinstance(value, list | tuple) else [value]
        # `preset: off` is a name, which YAML reads as false
        if wanted not in (bool, str) and any(isinstance(v, bool) for v in values):
            said = next(str(v).lower() for v in values if isinstance(v, bool))
            raise ValueError(f"must not be {said} (in YAML, yes, no, on and off mean true and false)")
        return value


def _fraction(value: Any) -> Any:
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is not a fraction such as 253/361") from None
    return value


def _temperature(value: float) -> float:
    if 0 < value < 1e-3:
        raise ValueError("must be 0 (greedy) or at least 0.001")
    return value


def _off(value: Any) -> Any:
    return "off" if value is False else value  # YAML reads a bare `off` as false


PresetName = Annotated[str, BeforeValidator(_off)]
Share = Annotated[float, BeforeValidator(_fraction), Field(ge=0.0, le=1.0)]
Layers = list[Annotated[int, Field(ge=0)]]


def _checkpoint(value: str | None) -> str | None:
    path = None if value is None else _local(value)
    if value is not None and not (path is not None and path.is_dir()) and not _is_repository(value):
        raise ValueError(f"{value!r} is neither a checkpoint directory nor a hub id")
    return value


class GuideStage(Strict):
    """What the tower is shown: the frames and the region that a second checkpoint finds by the prompt."""

    method: str = "clip-crop"
    model: Annotated[str | None, AfterValidator(_checkpoint)] = Field(
        default=None, description="hub id or directory of a CLIP or CLIPSeg; default: OpenAI's ViT-L, CIDAS'"
    )
    keep: Share = Field(
        default=0.5,
        description="share of what there is to see: of an image's area, of a video's area times its frames",
    )
    roi: Share = Field(
        default=0.8, description="free-video-llm: share of a frame's area, the rest of keep is frames"
    )


class VisionStage(Strict):
    """Merging inside the vision tower: after attention, in each of `layers` (counted from 0)."""

    method: str = "illava"
    layers: Layers = Field(default=[], description="tower layers that merge, counted from 0")
    r: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="tokens removed per layer and tile; one value or one per layer"
    )
    drop: Share | list[Share] | None = Field(
        default=None, description="fraction of the 2x2 groups removed per layer (Qwen)"
    )
    keep: Share | list[Share] | None = Field(
        default=None,
        description="fraction of the 2x2 groups kept per layer; unlike drop rounded over all layers (Qwen)",
    )
    proportional: bool = Field(
        default=False,
        description="attention counts a merged token by its size (method bipartite and the like)",
    )


class InputStage(Strict):
    """Reduction between projector and LLM, of each tile's or frame's tokens by the tower's last attention."""

    method: str = "illava"
    keep: Share | None = Field(
        default=None, description="fraction kept of each tile or frame; prumerge decides by itself without it"
    )


class LLMStage(Strict):
    """Merging inside the decoder: before each of `layers`, by the attention of the layer before it."""

    method: str = "illava"
    layers: Layers = Field(default=[], description="decoder layers before which tokens merge, from 1")
    keep: Share | list[Share] | None = Field(
        default=None, description="fraction of the visual tokens kept per layer, e.g. 0.7 or 253/361"
    )
    queries: Literal["last", "visual", "visual-literal"] | None = Field(
        default=None, description="whose attention counts; default: by variant"
    )
    scope: Literal["medium", "all"] = Field(
        default="medium", description="each image or video ranks its own tokens, or all together"
    )


class VisionByMedium(Strict):
    """A tower schedule for each kind of medium."""

    image: VisionStage | None = None
    video: VisionStage | None = None


class LLMByMedium(Strict):
    """A decoder schedule for each kind of medium; a session takes one, images going first."""

    image: LLMStage | None = None
    video: LLMStage | None = None


def _one_or_each(stage: Any) -> str:
    keys = stage if isinstance(stage, dict) else getattr(stage, "model_fields_set", ())
    return "each" if not {"image", "video"}.isdisjoint(keys) else "one"


VisionSchedule = Annotated[
    Annotated[VisionStage, Tag("one")] | Annotated[VisionByMedium, Tag("each")], Discriminator(_one_or_each)
]
LLMSchedule = Annotated[
    Annotated[LLMStage, Tag("one")] | Annotated[LLMByMedium, Tag("each")], Discriminator(_one_or_each)
]


class Reduction(Strict):
    """A whole schedule: what a preset holds, and what remains after the overrides."""

    description: str = ""
    variant: Literal["paper", "authors"] = "paper"
    layout: Literal["grid", "faithful"] = "grid"
    positions: Literal["packed", "original"] | None = None
    method: str | None = Field(
        default=None, description="one method for the stages that have a meaning for it; others do nothing"
    )
    guide: GuideStage | None = None
    vision: VisionSchedule | None = None
    input: InputStage | None = None
    llm: LLMSchedule | None = None


class Preset(Strict):
    """A preset file: one reduction, one for each family (`auto`), or one with exceptions for families."""

    description: str = ""
    min_visual_tokens: Annotated[int, Field(ge=0)] = Field(
        default=0, description="media of fewer tower tokens are not merged: it would not pay"
    )
    families: tuple[str, ...] | None = Field(
        default=None, description="schedule keys of the models it is for, and no other; absent: any model"
    )
    reduction: Reduction | None = None
    by_family: dict[str, Reduction] | None = None

    @model_validator(mode="after")
    def _something(self) -> Preset:
        if not self.by_family and self.reduction is None:
            raise ValueError("by_family holds no schedule: name a family and its schedule")
        return self


class ModelOptions(Strict):
    """Which checkpoint, and how it is loaded."""

    id: str | None = Field(default=None, description="hub id, checkpoint directory or random:NAME")
    revision: str | None = None
    schedule: str | None = Field(
        default=None, description="key of the presets' schedules; by default that of its family and size"
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16", "float64"] = "auto"
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N, mps")
    device_map: str | dict[str, str | int] | None = Field(
        default=None, description="spread over devices (auto, balanced, ...); needs accelerate"
    )
    offload_folder: str | None = Field(default=None, description="where device_map keeps what goes to disk")
    attn: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    compile: bool = Field(default=False, description="torch.compile tower and decoder; slow to start")
    quantization: Literal["bnb-4bit", "bnb-8bit"] | None = None
    feature_cache_mb: Annotated[int, Field(ge=0)] = Field(
        default=512, description="encoded media that a session keeps for later questions, in MiB"
    )
    vision_chunk_mb: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="bound on the activations of one pass through the tower, in MiB; 32 on a CPU, else 256",
    )


# No model here looks at more than 13 million pixels; a picture of 100 takes 1 to 2 s and 1 GB to read.
MAX_MEGAPIXELS = 100.0


class MediaOptions(Strict):
    """How images and videos are read."""

    num_frames: Annotated[int, Field(gt=0)] | None = Field(default=None, description="frames, evenly spaced")
    fps: Annotated[float, Field(gt=0)] | None = Field(default=None, description="frames per second")
    start: Annotated[float, Field(ge=0)] | None = Field(default=None, description="seconds, as players count")
    end: Annotated[float, Field(gt=0)] | None = Field(default=None, description="seconds, as players count")
    max_tiles: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="most tiles of an image; 1 = one padded square"
    )
    tile_each: bool = Field(
        default=False, description="tile each of several images too, such as the pages of a document (LLaVA)"
    )
    max_megapixels: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=MAX_MEGAPIXELS,
        description="largest image or frame, in million pixels; a larger JPEG is read smaller",
    )
    video_backend: Literal["auto", "decord", "pyav"] = "auto"
    media_timeout: Annotated[float, Field(gt=0, le=LONGEST_S)] | None = Field(
        default=120.0, description="seconds to get and decode one image or video; null = no limit"
    )

    @model_validator(mode="after")
    def _consistent(self) -> MediaOptions:
        if self.num_frames and self.fps:
            raise ValueError("num_frames and fps exclude one another: give one of them")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"start ({self.start:g} s) must lie before end ({self.end:g} s)")
        return self

    def tiles(self, images: int) -> bool:
        """Whether each of a turn's so many images is tiled, by a model that tiles one that comes alone."""
        return images == 1 or self.tile_each


class GenerationOptions(Strict):
    """How the answer is decoded."""

    max_tokens: Annotated[int, Field(gt=0)] = 512
    temperature: Annotated[float, Field(ge=0), AfterValidator(_temperature)] = Field(
        default=0.0, description="0 = greedy"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stop: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = Field(
        default=[], description="strings that end the answer (not included in it)"
    )
    system: str | None = Field(default=None, description="system prompt; default: the template's own")


# what a configuration may override of its preset
WORDS, STAGES = ("variant", "layout", "positions", "method"), ("guide", "vision", "input", "llm")
OVERRIDES = (*WORDS, *STAGES)
BUDGETS = ("r", "drop", "keep")  # of a stage: one replaces another


class Config(Strict):
    """Everything that decides an answer but the prompt and the media."""

    model: ModelOptions = ModelOptions()
    preset: PresetName = "auto"
    variant: Literal["paper", "authors"] | None = None
    layout: Literal["grid", "faithful"] | None = None
    positions: Literal["packed", "original"] | None = None
    method: str | None = None
    guide: GuideStage | None = None
    vision: VisionSchedule | None = None
    input: InputStage | None = None
    llm: LLMSchedule | None = None
    media: MediaOptions = MediaOptions()
    generation: GenerationOptions = GenerationOptions()

    def identity(self) -> dict[str, Any]:
        """All settings and the preset's content: two runs with the same answer the same."""
        groups = {"model", "preset", "media", "generation"}
        data = self.model_dump(mode="json", include=groups)
        del data["media"]["media_timeout"]  # it decides whether there is an answer, not which
        # only what was set overrides a preset; `vision: null` switches off, an absent `vision` does not
        data["overrides"] = self.model_dump(mode="json", exclude=groups, exclude_unset=True)
        # whom a preset is for, and how it is described, changes nothing in what it does
        words = {"families": True, "description": True, "reduction": {"description"}}
        words["by_family"] = {"__all__": {"description"}}
        data["schedule"] = load_preset(self.preset).model_dump(mode="json", exclude=words)
        return data

    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of `identity()`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:12]

    def _refuse_two_methods(self) -> None:
        for name in STAGES:
            stage = getattr(self, name)
            stages = [stage, *(getattr(stage, kind, None) for kind in ("image", "video"))]
            if self.method and any(s is not None and "method" in s.model_fields_set for s in stages):
                raise UsageError(
                    f"method is for all stages, and {name}.method is given as well: leave one out"
                )

    def reduction_for(self, family: str) -> Reduction:
        """The preset's reduction for `family` (a key such as `qwen2_vl`) with this file's overrides.

        Raises:
            UsageError: the preset is for other families.
        """
        preset = load_preset(self.preset)
        if preset.families is not None and family not in preset.families:
            names = dict.fromkeys(map(family_name, preset.families))
            fitting = [name for name in presets() if family in (load_preset(name).families or ())]
            raise UsageError(
                f"preset {preset_label(self.preset)!r} is for {' and '.join(names)}: "
                f"use {' or '.join([*fitting, 'auto'])}"
            )
        base = (preset.by_family or {}).get(family, preset.reduction)
        if base is None:
            raise UsageError(f"preset {self.preset!r} has no schedule for {family}: name another preset")
        self._refuse_two_methods()
        merged = _overridden(base.model_dump(exclude_unset=True), self)
        return validate(Reduction, merged, f"preset {self.preset!r} with its overrides")


def _overridden(reduction: dict, changes: Config | Reduction) -> dict:
    """A reduction's settings with what `changes` sets of them; `null` takes a stage away."""
    reduction = dict(reduction)
    for name in WORDS:
        if name in changes.model_fields_set and (value := getattr(changes, name)) is not None:
            reduction[name] = value
    for name in STAGES:
        if name in changes.model_fields_set:
            override = getattr(changes, name)
            reduction[name] = None if override is None else _override(reduction.get(name), override)
    return reduction


def _override(base: dict | None, override: Strict) -> dict:
    """`override`'s own fields over `base`; a budget given one way replaces one given the other way."""
    base = dict(base or {})
    by_medium = {"image", "video"}
    if isinstance(override, VisionByMedium | LLMByMedium):
        if by_medium.isdisjoint(base):
            base = {kind: dict(base) for kind in by_medium} if base else {}
        for kind in override.model_fields_set:
            stage = getattr(override, kind)
            base[kind] = None if stage is None else _override(base.get(kind), stage)
        return base
    if not by_medium.isdisjoint(base):
        return {kind: _override(stage, override) for kind, stage in base.items()}
    changed = override.model_dump(exclude_unset=True)
    if not changed.keys().isdisjoint(BUDGETS):
        base = {name: value for name, value in base.items() if name not in BUDGETS}
    return base | changed


# --- reading -----------------------------------------------------------------------------------


def near_miss(name: str, known: list[str]) -> str:
    """`; did you mean X?` for the closest of `known`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fields_at(model: type[BaseModel], path: tuple) -> list[str]:
    """Names of the settings at `path` below `model`, for near misses."""
    node: Any = model.model_json_schema(mode="validation")
    definitions = node.get("$defs", {})

    def members(node: dict) -> list[dict]:
        if "$ref" in node:
            return members(definitions[node["$ref"].rsplit("/", 1)[1]])
        below = [*node.get("anyOf", []), *node.get("oneOf", [])]
        return [m for part in below for m in members(part)] if below else [node]

    nodes = members(node)
    for part in path:
        if part not in ("one", "each"):
            nodes = [
                m for n in nodes if part in n.get("properties", {}) for m in members(n["properties"][part])
            ]
    return sorted({name for n in nodes for name in n.get("properties", {})})


def validate(model: type[M], data: Any, source: str) -> M:
    """`data` as `model`.

    Raises:
        UsageError: one line with the first problem, where it is, and the near miss of an unknown key.
    """
    if not isinstance(data, dict):
        raise UsageError(f"{source}: expected a mapping of settings, found {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        worst = error.errors()[0]
        # the names of a union's members are pydantic's, not the user's
        path = [p for p in worst["loc"] if p not in ("one", "each") and not re.search(r"[\[(]", str(p))]
        where = ".".join(map(str, path)).removeprefix("reduction.")
        if worst["type"] == "extra_forbidden":
            name = str(worst["loc"][-1])
            hint = near_miss(name, _fields_at(model, worst["loc"][:-1]))
            raise UsageError(f"{source}: unknown key {where!r}{hint}") from None
        message = worst["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        raise UsageError(f"{source}: {where + ': ' if where else ''}{message}") from None


def read_yaml(path: Path) -> dict:
    """A YAML file's mapping.

    Raises:
        UsageError: missing, unreadable or not a mapping; says the line.
    """
    try:
        data = yaml.safe_load(decoded(path.read_bytes(), str(path)))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{path}{where}: not valid YAML ({problem})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected a mapping of settings, found {type(data).__name__}")
    return data


@cache
def configs_dir() -> Path:
    """The shipped YAML: in the package when installed, beside it in a plain checkout."""
    for base in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (base / "presets").is_dir():
            return base
    raise UsageError("the shipped configs/ folder is missing: reinstall illava")


def shipped(kind: str) -> dict[str, Path]:
    """Shipped YAML of one kind (`models`, `presets`, `architectures`) by name."""
    return {path.stem: path for path in sorted((configs_dir() / kind).glob("*.yaml"))}


def presets() -> list[str]:
    """Names of the shipped presets."""
    return list(shipped("presets"))


@cache
def load_preset(name: str, changed_by: tuple[str, ...] = ()) -> Preset:
    """A shipped preset by name, or a YAML file by path.

    Args:
        changed_by: files whose `base` it is, from which they change it; a path there is relative to the file
            in which it stands.
    """
    files = shipped("presets")
    path = files.get(name) or Path(name)
    if name not in files and path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"unknown preset {name!r}{near_miss(name, list(files))} (there are: {', '.join(files)})"
        )
    data = read_yaml(path)
    if "base" in data:
        base = said = str(_off(data.pop("base")))
        if base not in files and Path(base).suffix in (".yaml", ".yml"):
            base = str(path.parent / Path(base).expanduser())
        trail = (*changed_by, _same_file(name, files))
        if _same_file(base, files) in trail:
            raise UsageError(f"preset {name}: base {said!r} leads back to itself: name another preset")
        return _changed(load_preset(base, trail), data, f"preset {name}")
    if "by_family" not in data:
        own = {name: data.pop(name) for name in ("families",) if name in data}
        data = {"description": data.get("description", ""), **own, "reduction": data}
    return validate(Preset, data, f"preset {name}")


def _same_file(name: str, files: dict[str, Path]) -> str:
    """One name for a preset, however its path is written."""
    return name if name in files else os.path.realpath(name)


def _changed(base: Preset, changes: dict, source: str) -> Preset:
    """`base` with the changes that a preset file of its own makes to every schedule in it."""
    own = {name: changes.pop(name) for name in ("description", "families") if name in changes}
    override = validate(Reduction, changes, source)
    data = base.model_dump(exclude_unset=True) | own
    if base.reduction is not None:
        data["reduction"] = _overridden(data["reduction"], override)
    for family, reduction in (data.get("by_family") or {}).items():
        data["by_family"][family] = _overridden(reduction, override)
    return validate(Preset, data, source)


def preset_label(name: str) -> str:
    """How reports call a preset: its name, which may have a dot in it, or its file's, wherever that lies."""
    path = Path(name)
    return path.stem if path.suffix in (".yaml", ".yml") else name


def parse_setting(text: str, source: str | None = None) -> dict:
    """`a.b=c` as a nested mapping; the value is read as YAML.

    Args:
        source: what the user wrote, for errors; the default is `--set TEXT`.
    """
    source = source or f"--set {text!r}"
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{source}: expected name=value, for example --set llm.keep=0.5")
    try:
        parsed: Any = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"{source}: {value!r} is not valid YAML; quote it") from None
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def deep_merge(base: dict, over: dict) -> dict:
    """`over` on top of `base`, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = deep_merge(merged[key], value) if both else value
    return merged


def _is_repository(name: str) -> bool:
    """Whether the hub would take `name` as owner/name."""
    parts = name.split("/")
    well_formed = re.compile(r"\w[\w.-]*\w|\w")
    no_runs = ".." not in name and "--" not in name
    return len(name) <= 96 and len(parts) == 2 and no_runs and all(map(well_formed.fullmatch, parts))


def _local(name: str) -> Path | None:
    """`name` as a path, if it can be one."""
    path = Path(name).expanduser()
    try:
        path.exists()
    except (OSError, ValueError):
        return None
    return path


def over(base: dict, layer: dict) -> dict:
    """A stronger layer of settings; asking for frames one way replaces asking the other way."""
    asked = layer.get("media")
    for one, other in (("num_frames", "fps"), ("fps", "num_frames")):
        if isinstance(asked, dict) and asked.get(one) is not None and other not in asked:
            base = deep_merge(base, {"media": {other: None}})
    return deep_merge(base, layer)


def environment(environ: dict[str, str] | os._Environ = os.environ) -> dict:
    """The settings of the `ILLAVA_*` variables."""
    settings: dict = {}
    for name, path in ENVIRONMENT.items():
        if environ.get(name):
            settings = deep_merge(settings, parse_setting(f"{path}={environ[name]}", name))
    return settings


def default_model() -> str:
    """The model of a user who named none: 7B where there is a CUDA device, else 0.5B."""
    import torch

    return "llava-onevision-7b" if torch.cuda.is_available() else "llava-onevision-0.5b"


def resolve(
    model: str | None = None,
    *,
    settings: list[str] | None = None,
    overrides: dict | None = None,
    environ: dict[str, str] | os._Environ = os.environ,
) -> Config:
    """The configuration of a run.

    Args:
        model: a name from `configs/models` (`tiny` among them), a YAML path, a checkpoint directory, a hub id
            or `random:NAME`.
        settings: `a.b=c` strings (`--set`), strongest of all.
        overrides: nested mapping of the command line's other flags.
        environ: the environment.

    Raises:
        UsageError: unknown model, preset or key, or a value out of range.
    """
    stronger = environment(environ)
    for layer in (overrides or {}, *map(parse_setting, settings or [])):
        stronger = over(stronger, layer)
        if isinstance(layer.get("model"), dict) and layer["model"].get("id") is not None:
            model = None  # --set model.id is stronger than --model
    if not isinstance(stronger.get("model", {}), dict):
        raise UsageError("settings: model is a group of settings: write model.id=NAME, or use --model NAME")
    named = stronger.get("model", {}).pop("id", None)
    name = model or (str(named) if named is not None else None) or default_model()
    files = shipped("models")
    if name in files or name.endswith((".yaml", ".yml")):
        path = files.get(name, Path(name))
        data = read_yaml(path)
        # a bad key is the file's fault here, not the command line's
        if validate(Config, data, path.name if name in files else str(path)).model.id is None:
            raise UsageError(f"{path} names no checkpoint: set model.id to a hub id or a directory")
    elif name.startswith("random:"):
        data = {"model": {"id": name}}
    elif (path := _local(name)) is not None and path.is_dir():
        data = {"model": {"id": str(path)}}
    elif path is not None and path.exists():
        raise UsageError(f"model {name!r} is a file: give a YAML file, a checkpoint directory or a hub id")
    elif _is_repository(name):
        data = {"model": {"id": name}}
    else:
        known = [*files, *(f"random:{architecture}" for architecture in shipped("architectures"))]
        raise UsageError(
            f"unknown model {name[:80]!r}{near_miss(name, known)} "
            "(`illava models list` shows the names; a checkpoint directory or a hub id owner/name works too)"
        )
    config = validate(Config, over(data, stronger), "settings")
    load_preset(config.preset)
    return config
