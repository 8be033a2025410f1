"""Writes `docs/reference`: the commands, the settings and the Python API, from the code that they describe.

python scripts/make_reference.py            # writes the pages
python scripts/make_reference.py --check    # exit code 1 where one is stale
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from reference_pages import api, commands, settings  # noqa: E402

PAGES: dict[str, Callable[[], str]] = {"commands": commands.page, "settings": settings.page, "api": api.page}
FOLDER = ROOT / "docs" / "reference"


def stale(name: str) -> str | None:
    """One line where a page is not what the code says; None where it is."""
    path = FOLDER / f"{name}.md"
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    return None if found == PAGES[name]() else f"docs/reference/{name}.md is stale: run make reference"


def main() -> int:
    """Write, or check."""
    if "--check" in sys.argv[1:]:
        found = [line for name in PAGES if (line := stale(name))]
        print(*found, sep="\n", end="\n" if found else "")
        return bool(found)
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / f"{name}.md").write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
