"""YAML and mappings -> pydantic models; a mistake is one line that says where, and names the near miss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from illava_cli.errors import UsageError
from illava_cli.text import decoded, near_miss

M = TypeVar("M", bound=BaseModel)


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
