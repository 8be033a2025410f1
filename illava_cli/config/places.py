"""Where things lie: the package, the YAML that is shipped with it, and what the name of a checkpoint can be.

Imports nothing heavy: a completion of names asks here.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from illava_cli.errors import UsageError

PACKAGE = Path(__file__).parents[1]


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


def local_path(name: str) -> Path | None:
    """`name` as a path, if it can be one."""
    path = Path(name).expanduser()
    try:
        path.exists()
    except (OSError, ValueError):
        return None
    return path


def is_hub_id(name: str) -> bool:
    """Whether the hub would take `name` as owner/name."""
    parts = name.split("/")
    well_formed = re.compile(r"\w[\w.-]*\w|\w")
    no_runs = ".." not in name and "--" not in name
    return len(name) <= 96 and len(parts) == 2 and no_runs and all(map(well_formed.fullmatch, parts))
