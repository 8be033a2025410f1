"""The settings, from the pydantic models: name, type, range, default, description, flag and variable."""

from __future__ import annotations

import inspect
import types
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from illava_cli.config import stages
from illava_cli.config.options import GROUP_OF, GROUPS
from illava_cli.config.settings import Config
from reference_pages import MADE, table

INTRO = """# Settings

All that a YAML file and `--set NAME=VALUE` may hold. `illava config show` prints what a run would use,
`illava config schema` the JSON schema for editors."""
PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
BOUNDS = {"ge": "at least", "gt": "over", "le": "at most", "lt": "below"}
STAGES = {
    "guide": (stages.GuideStage,),
    "pixels": (stages.PixelsStage, stages.PixelsByMedium),
    "frames": (stages.FramesStage,),
    "vision": (stages.VisionStage, stages.VisionByMedium),
    "input": (stages.InputStage, stages.InputByMedium),
    "llm": (stages.LLMStage, stages.LLMByMedium),
}
OWN = {"preset": "which schedule: a name of `illava config presets`, or a YAML file"}
NOT_IN_FILES = ("reduction",)  # a preset file holds its schedule without this name


def page() -> str:
    """All of it."""
    reduction = {n: f for n, f in stages.ReductionSettings.model_fields.items() if n not in STAGES}
    parts = [MADE, INTRO, "## What is merged", _about(stages.ReductionSettings)]
    parts.append(_table(Config, {"preset": Config.model_fields["preset"], **reduction}, ""))
    for name, (one, *each) in STAGES.items():
        parts += [f"### `{name}`", _about(one), _table(one, one.model_fields, f"{name}.")]
        if each:
            parts.append(f"Or one of them for each kind of medium: `{name}.image`, `{name}.video`.")
    for name, group in GROUPS.items():
        parts += [f"## `{name}`", _about(group), _table(group, group.model_fields, f"{name}.")]
    preset = {n: f for n, f in stages.Preset.model_fields.items() if n not in NOT_IN_FILES}
    parts += ["## A preset file", _about(stages.Preset)]
    parts.append(
        "Beside what is [merged](#what-is-merged) it may hold these, or `base`, a preset that it changes:"
    )
    parts.append(_table(stages.Preset, preset, ""))
    return "\n\n".join(parts) + "\n"


def _about(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__)


def _table(model: type[BaseModel], chosen: dict[str, FieldInfo], prefix: str) -> str:
    hints = get_type_hints(model, include_extras=True)
    rows = []
    for name, field in chosen.items():
        key, kind = f"{prefix}{name}", words(hints[name], list(field.metadata))
        reach = ", ".join(f"`{way}`" for way in (*filter(None, [_flags().get(key)]), *_variable(key)))
        rows.append((f"`{key}`", kind, _default(field), field.description or OWN.get(key, ""), reach))
    return table(("name", "type", "default", "", "also as"), rows)


def words(hint: Any, bounds: list[Any] | None = None) -> str:
    """A type in words, with the range of its values."""
    bounds = bounds or []
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        own = [m for one in parts[1:] for m in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return words(parts[0], [*own, *(b for b in bounds if b not in own)])
    if origin in (Union, types.UnionType):
        return _either([part for part in parts if part is not type(None)], bounds)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin is list or origin is tuple:
        return f"list of {words(parts[0])}"
    if origin is dict:
        return f"map of {words(parts[0])} to {words(parts[1])}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "a schedule"
    return PLAIN[hint] + _range(bounds)


def _either(parts: list[Any], bounds: list[Any]) -> str:
    """What any of these types is; a value or several of them is said once."""
    said: list[str] = []
    for part in parts:
        text = words(part, bounds)
        if get_origin(part) is list and words(get_args(part)[0]) in said:
            text = "a list of these"
        if text not in said:
            said.append(text)
    return " or ".join(said)


def _range(bounds: list[Any]) -> str:
    said = {name: getattr(b, name) for b in bounds for name in BOUNDS if hasattr(b, name)}
    if not said:
        return ""
    if said.keys() == {"ge", "le"}:
        return f" ({_number(said['ge'])} to {_number(said['le'])})"
    return f" ({', '.join(f'{text} {_number(said[name])}' for name, text in BOUNDS.items() if name in said)})"


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value in ("", [], {}) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@cache
def _flags() -> dict[str, str]:
    """The common flags by the settings that they give."""
    from illava_cli.cli.commands import COMMANDS, Announced
    from illava_cli.cli.options import ModelFlags

    run = Announced("run", *COMMANDS["run"]).command()
    names = {field.name for field in fields(ModelFlags)}
    own = {"model": "model.id", "preset": "preset", "method": "method"}
    own |= {name: f"{group}.{name}" for name, group in GROUP_OF.items() if name in names}
    return {
        own[one.name]: max(one.opts, key=len) for one in run.params if one.name in own and one.name in names
    }


def _variable(key: str) -> list[str]:
    """The variable of the environment that sets it."""
    from illava_cli.config.sources import ENVIRONMENT

    return [variable for variable, setting in ENVIRONMENT.items() if setting == key]
