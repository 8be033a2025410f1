"""One end of the supported range, as pip's requirements: `range_ends.py oldest|newest`.

The oldest releases are the lower bounds of pyproject.toml; for the newest pip takes what the range allows.
Torch stays what it is in the environment that both are laid over: not every release has a build for CPUs.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
AS_THEY_ARE = {"torch"}
EXTRAS = ("chat", "multi-gpu", "plot", "sentencepiece")


def requirements() -> list[Requirement]:
    """What the package and the extras of the tests ask for on this machine, but torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(t for e in EXTRAS for t in project["optional-dependencies"][e])]
    asked = [Requirement(text) for text in texts]
    return [r for r in asked if r.name not in AS_THEY_ARE and (r.marker is None or r.marker.evaluate())]


def oldest(requirement: Requirement) -> str:
    """`name==X` for a requirement `name>=X,<Y`."""
    (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
    return f"{requirement.name}=={bound}"


def newest(requirement: Requirement) -> str:
    """The range itself."""
    return f"{requirement.name}{requirement.specifier}"


ENDS = {"oldest": oldest, "newest": newest}

if __name__ == "__main__":
    print("\n".join(map(ENDS[sys.argv[1]], requirements())))
