"""Preset files: whom each is for, what it changes of another, and what a configuration changes of it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from illava_cli.config.places import shipped
from illava_cli.config.reading import read_yaml, validate
from illava_cli.config.stages import BY_MEDIUM, Preset, Reduction, ReductionSettings
from illava_cli.config.values import Strict, off
from illava_cli.errors import UsageError
from illava_cli.text import near_miss

STAGES = ("guide", "pixels", "frames", "vision", "input", "llm")
OVERRIDES = tuple(ReductionSettings.model_fields)  # what a configuration may change of its preset
BUDGETS = ("r", "drop", "keep")  # of a stage: one replaces another


def preset_names() -> list[str]:
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
        base = said = str(off(data.pop("base")))
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
        data["reduction"] = overridden(data["reduction"], override)
    for family, reduction in (data.get("by_family") or {}).items():
        data["by_family"][family] = overridden(reduction, override)
    return validate(Preset, data, source)


def overridden(reduction: dict, changes: ReductionSettings) -> dict:
    """A reduction's settings with what `changes` sets of them; `null` takes a stage away."""
    reduction = dict(reduction)
    for name in (name for name in OVERRIDES if name in changes.model_fields_set):
        change = getattr(changes, name)
        if isinstance(change, Strict):
            reduction[name] = _override(reduction.get(name), change)
        elif change is not None or name in STAGES:
            reduction[name] = change
    return reduction


def _override(base: dict | None, override: Strict) -> dict:
    """`override`'s own fields over `base`; a budget given one way replaces one given the other way.

    A kind of medium that `base` leaves out merges only where layers and a budget are given.
    """
    base = dict(base or {})
    by_medium = {"image", "video"}
    if isinstance(override, BY_MEDIUM):
        if by_medium.isdisjoint(base):
            base = {kind: dict(base) for kind in by_medium} if base else {}
        for kind in override.model_fields_set:
            stage = getattr(override, kind)
            base[kind] = None if stage is None else _override(base.get(kind), stage)
        return base
    changed = override.model_dump(exclude_unset=True)
    if not by_medium.isdisjoint(base):
        whole = bool(changed.get("layers")) and any(changed.get(budget) is not None for budget in BUDGETS)
        kinds = sorted(by_medium) if whole else [kind for kind, stage in base.items() if stage is not None]
        return base | {kind: _override(base.get(kind), override) for kind in kinds}
    if not changed.keys().isdisjoint(BUDGETS):
        base = {name: value for name, value in base.items() if name not in BUDGETS}
    return base | changed


def preset_label(name: str) -> str:
    """How reports call a preset: its name, which may have a dot in it, or its file's, wherever that lies."""
    path = Path(name)
    return path.stem if path.suffix in (".yaml", ".yml") else name
