"""What the pages of `docs/reference` are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MADE = "<!-- Made by scripts/make_reference.py: change what it is made of, then run make reference. -->"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; columns in which nothing stands are left out."""
    lines = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    used = [n for n in range(len(header)) if any(line[n] for line in lines)]
    cells = [[line[n] for n in used] for line in (header, ["---"] * len(header), *lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
