"""Builds the site of the documentation: `docs/` and the pages that stand elsewhere, as HTML in `site/`.

The pages are Markdown that reads in the repository, where README.md is the start page. They are gathered in
`build/docs`, with links rewritten where a page has moved; zensical makes the site of them (`zensical.toml`),
and every link of it is checked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

from check_site import faults

ROOT = Path(__file__).parents[1]
GATHERED = ROOT / "build" / "docs"
SITE = ROOT / "site"
# pages outside of docs/, and where they stand on the site
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "illava_cli/assets/tiny/README.md": "tiny.md",
    "illava_cli/assets/tiny-qwen/README.md": "tiny-qwen.md",
}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)|(?<=src=\")([^\"]+)")


class Stray(Exception):
    """A link that leads off the site."""


def place(path: str) -> str:
    """Where a file of the repository stands on the site.

    Raises:
        Stray: nowhere.
    """
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    raise Stray(f"{path} is not on the site: name it as code, or let scripts/build_docs.py take it along")


def moved(text: str, source: str) -> str:
    """A page with its links as they are on the site.

    Args:
        source: its path in the repository.
    """
    folder, own = PurePosixPath(source).parent, PurePosixPath(place(source)).parent

    def link(found: re.Match[str]) -> str:
        target = found[0]
        if re.match(r"[a-z]+:", target):
            return target
        return os.path.relpath(place(os.path.normpath(folder / target)), own)

    return LINK.sub(link, text)


def gather(root: Path, into: Path) -> list[str]:
    """Lays all pages into one folder; what is wrong with their links, a line each."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(root / "docs", into)
    wrong = []
    for source in [*PAGES, *(path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md"))]:
        try:
            text = moved((root / source).read_text(encoding="utf-8"), source)
        except Stray as stray:
            wrong.append(f"{source}: {stray}")
            continue
        (into / place(source)).write_text(text, encoding="utf-8")
    return wrong


def main() -> int:
    """Gather, build, check."""
    wrong = gather(ROOT, GATHERED)
    if not wrong:
        shutil.rmtree(SITE, ignore_errors=True)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        if (code := subprocess.run(command, cwd=ROOT).returncode) != 0:
            return code
        wrong = faults(SITE)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(wrong)} broken links" if wrong else f"all links lead somewhere: {SITE.name}/index.html")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
