"""docs/tutorial.md, as its reader has it: the installed program in an empty folder, block after block."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.documented import blocks
from tests.processes import ROOT, run

BLOCKS = blocks(ROOT / "docs" / "tutorial.md")
SHELL = [block for block in BLOCKS if block.language == "sh"]
PYTHON = [block for block in BLOCKS if block.language == "python"]
FILES = {"answer.json", "page.html", "answers.jsonl", "mine.yaml", "out.jsonl"}


@pytest.mark.long
@pytest.mark.needs("bash")
def test_the_tutorial_does_what_it_says(tmp_path):
    tools = Path(sys.executable).parent
    environ = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    for block in SHELL:
        done = run(["bash", "-euo", "pipefail", "-c", block.text], cwd=tmp_path, env=environ)
        assert done.returncode == 0, f"line {block.line}: {done.stderr}"
        following = BLOCKS[BLOCKS.index(block) + 1]
        if following.language == "text":
            assert done.stdout == following.text, f"line {following.line}"
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    script = "\n".join(block.text for block in PYTHON)
    done = run([sys.executable, "-c", script], cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [line for block in PYTHON for line in block.said]


def test_every_file_that_it_writes_is_named():
    text = "".join(block.text for block in SHELL)
    assert all(f"-o {name}" in text for name in FILES)
