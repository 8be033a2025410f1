"""One end of the supported range, as pip's requirements: `range_ends.py oldest|newest`.

The oldest releases are the lower bounds of pyproject.toml; for the newest pip takes what the range allows.
Torch stays what it is in the environment that both are laid over: not every release has a build for CPUs.

With `--check`, run by the interpreter of that environment, it prints which releases are found there, with
exit code 1 where one is not that end's: what lies below must not stand in for it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
AS_THEY_ARE = {"torch"}
EXTRAS = ("chat", "multi-gpu", "plot", "sentencepiece")


def asked_for() -> list[Requirement]:
    """What the package and the extras of the tests ask for on this machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(t for e in EXTRAS for t in project["optional-dependencies"][e])]
    return [r for r in map(Requirement, texts) if r.marker is None or r.marker.evaluate()]


def oldest(requirement: Requirement) -> str:
    """`==X` for a requirement `name>=X,<Y`."""
    (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
    return f"=={bound}"


def newest(requirement: Requirement) -> str:
    """The range itself."""
    return str(requirement.specifier)


ENDS = {"oldest": oldest, "newest": newest}


def pinned() -> dict[str, Version]:
    """The newest releases that the tests were run with, by constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return {name.lower(): Version(v) for name, v in re.findall(r"^(\S+)==(\S+)$", text, flags=re.MULTILINE)}


def fault(end: str, requirement: Requirement, found: str) -> str | None:
    """Why an installed release is not that of this end; None where it is."""
    release = Version(found)
    if end == "oldest" and requirement.name not in AS_THEY_ARE:
        right = oldest(requirement)
        return None if SpecifierSet(right).contains(release) else f"not {right}"
    if not requirement.specifier.contains(release):
        return f"not {requirement.specifier}"
    least = pinned().get(requirement.name.lower())
    behind = end == "newest" and least is not None and release < least
    return f"older than {least}, with which the tests were run" if behind else None


def main(end: str, mode: str = "") -> int:
    """Print requirements, or with `--check` what there is of them; 1 where that is wrong."""
    if mode != "--check":
        print("\n".join(f"{r.name}{ENDS[end](r)}" for r in asked_for() if r.name not in AS_THEY_ARE))
        return 0
    there = [(r.name, version(r.name), fault(end, r, version(r.name))) for r in asked_for()]
    print("\n".join(f"{name} {release}{f': {why}' if why else ''}" for name, release, why in there))
    return int(any(why for _, _, why in there))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
