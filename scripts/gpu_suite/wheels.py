"""What a bare machine lacks, installed from a folder of wheels: no connection is needed or tried."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# module -> distribution; without these nothing runs
NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "numpy": "numpy",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "typing_inspection": "typing-inspection",
    "annotated_types": "annotated-types",
    "pydantic_core": "pydantic-core",
    "pydantic": "pydantic",
    "typer": "typer",
    "rich": "rich",
    "pytest": "pytest",
}
# a hanging test has a limit of its own; tests of scores need triton
USEFUL = {"triton": "triton", "pytest_timeout": "pytest-timeout"}
SECONDS = 60


def lacking(modules: Mapping[str, str]) -> list[str]:
    """The distributions whose module is not there."""
    importlib.invalidate_caches()
    return [name for module, name in modules.items() if importlib.util.find_spec(module) is None]


def install(folder: Path | None) -> dict[str, Any]:
    """Install what is lacking and in `folder`, and say what was and what still is lacking.

    Where the environment takes no packages they go into a temporary folder, which is put on this process's
    path; the processes that it starts get it from there.
    """
    wanted = lacking(NEEDED | USEFUL)
    there = [name for name in wanted if folder is not None and _wheel(folder, name)]
    if there:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(folder)]
        if not _run([*pip, *there]):
            site = tempfile.mkdtemp(prefix="gpu-suite-")
            newer = [
                name for name in ("typing-extensions",) if _wheel(folder, name)
            ]  # than the one that is there
            for name in [*there, *newer]:  # one by one: one that does not fit must not keep the others out
                _run([*pip, "--no-deps", "--target", site, name])
            sys.path.insert(0, site)
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    still = lacking(NEEDED)
    return {
        "installed": sorted(set(wanted) - set(lacking(NEEDED | USEFUL))),
        "lacking": still,
        "without": lacking(USEFUL),
    }


def _wheel(folder: Path, name: str) -> Path | None:
    stem = name.replace("-", "_")
    return next((path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{stem}-")), None)


def _run(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
