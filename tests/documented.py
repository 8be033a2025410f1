"""The examples of a document, as its readers find them: fenced blocks, and commands within the text."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVE = re.compile(r"illava serve((?: (?:[^`\n()\\]|\\\n)*)?)")
SAID = re.compile(r"print\(.*\)  # (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        language: what stands behind the fence.
        line: where it begins, from 1.
    """

    language: str
    text: str
    line: int

    @property
    def said(self) -> list[str]:
        """What its prints write, by their comments."""
        return SAID.findall(self.text)


def blocks(path: Path) -> list[Block]:
    """All of a document."""
    text = path.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def served(text: str) -> list[list[str]]:
    """What follows each `illava serve` of a text."""
    return [shlex.split(found.replace("\\\n", " "), comments=True) for found in SERVE.findall(text)]
