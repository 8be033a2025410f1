"""Looks into a wheel and an sdist, `check_dist.py FOLDER`: exit code 1 where one lacks or holds too much."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

MOST = 20 << 20  # bytes of a wheel
IN_WHEEL = (
    "illava_cli/__init__.py",
    "illava_cli/assets/tiny/model.safetensors",
    "illava_cli/assets/tiny-qwen/model.safetensors",
    "illava_cli/assets/shapes.mp4",
    "illava_cli/configs/presets/auto.yaml",
    "illava_cli/serve/page/index.html",
)
IN_SDIST = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "Makefile",
    "constraints.txt",
    "zensical.toml",
    "configs/presets/auto.yaml",
    "docs/tutorial.md",
    "scripts/check_dist.sh",
    "tests/test_files.py",
    "illava_cli/assets/tiny/model.safetensors",
)
CLUTTER = ("__pycache__", ".pyc", "/.", "/site/", "/build/", "/dist/", "/runs/")


def wheel_faults(path: Path) -> list[str]:
    """What is wrong with a wheel, a line each."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    wrong = [f"{path.name} lacks {name}" for name in IN_WHEEL if name not in names]
    strays = {name.split("/")[0] for name in names} - {"illava_cli"}
    wrong += [f"{path.name} installs {name}" for name in sorted(strays) if not name.endswith(".dist-info")]
    size = path.stat().st_size
    if size > MOST:
        wrong.append(f"{path.name} has {size / 1e6:.1f} MB: {MOST / 1e6:.1f} are the most")
    return wrong + clutter(path, names)


def sdist_faults(path: Path) -> list[str]:
    """What is wrong with an sdist, a line each."""
    with tarfile.open(path) as sdist:
        names = sdist.getnames()
    top = path.name.removesuffix(".tar.gz")
    wrong = [f"{path.name} lacks {name}" for name in IN_SDIST if f"{top}/{name}" not in names]
    return wrong + clutter(path, names)


def clutter(path: Path, names: list[str]) -> list[str]:
    """What nobody wants of these."""
    return [f"{path.name} holds {name}" for name in names if any(part in f"/{name}/" for part in CLUTTER)]


def main() -> int:
    """Look into both, and say how large they are."""
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    (sdist,) = Path(sys.argv[1]).glob("*.tar.gz")
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    wrong = [*wheel_faults(wheel), *sdist_faults(sdist)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
