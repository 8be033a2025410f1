"""Where settings come from, the stronger first: command line > `ILLAVA_*` environment > YAML > defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from illava_cli.config.options import GROUP_OF
from illava_cli.config.places import is_hub_id, local_path, shipped
from illava_cli.config.presets import load_preset
from illava_cli.config.reading import read_yaml, validate
from illava_cli.config.settings import Config
from illava_cli.errors import UsageError
from illava_cli.text import near_miss

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
    "ILLAVA_MIN_PIXELS": "media.min_pixels",
    "ILLAVA_MAX_PIXELS": "media.max_pixels",
    "ILLAVA_MAX_MEGAPIXELS": "media.max_megapixels",
    "ILLAVA_TILE_EACH": "media.tile_each",
    "ILLAVA_MEDIA_TIMEOUT": "media.media_timeout",
    "ILLAVA_MAX_TOKENS": "generation.max_tokens",
    "ILLAVA_TEMPERATURE": "generation.temperature",
    "ILLAVA_SEED": "generation.seed",
    "ILLAVA_THINKING": "generation.thinking",
}

WHOLE = "json_schema"  # a mapping that is one value


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


def grouped(settings: Mapping[str, Any]) -> dict:
    """Settings by their own names as a YAML file nests them: `max_tokens` stands under `generation`."""
    nested: dict = {}
    for name, value in settings.items():
        group = GROUP_OF.get(name)
        nested = deep_merge(nested, {group: {name: value}} if group else {name: value})
    return nested


def deep_merge(base: dict, over: dict) -> dict:
    """`over` on top of `base`, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != WHOLE
        merged[key] = deep_merge(merged[key], value) if both else value
    return merged


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
    elif (path := local_path(name)) is not None and path.is_dir():
        data = {"model": {"id": str(path)}}
    elif path is not None and path.exists():
        raise UsageError(f"model {name!r} is a file: give a YAML file, a checkpoint directory or a hub id")
    elif is_hub_id(name):
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
