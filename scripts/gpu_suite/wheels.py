"""What a bare machine lacks, unpacked from a folder of wheels: no installer and no connection is needed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

# module -> distribution; without these nothing runs
NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "numpy": "numpy",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "pydantic": "pydantic",
    "typer": "typer",
    "rich": "rich",
    "pytest": "pytest",
}


def unpack(folder: Path | None) -> dict[str, Any]:
    """Unpack all wheels of `folder` in front of what is installed, and say which, and what is still lacking.

    They lie in a temporary folder on this process's path, from which the processes that it starts get it.
    """
    unpacked, broken = [], []
    if folder is not None:
        site = tempfile.mkdtemp(prefix="gpu-suite-")
        for wheel in sorted(folder.glob("*.whl")):
            try:
                with ZipFile(wheel) as files:
                    files.extractall(site)
            except (BadZipFile, OSError):
                broken.append(wheel.name)
            else:
                unpacked.append("-".join(wheel.name.split("-")[:2]))
        sys.path.insert(0, site)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
        importlib.invalidate_caches()
    lacking = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    return {"unpacked": unpacked, "broken": broken, "lacking": lacking}
