"""What the tests of the command line share: running it, in this process or in one of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.cli import fakes

ROOT = Path(__file__).parents[2]
ILLAVA = [sys.executable, "-m", "illava_cli.cli.app"]
FAKE = [sys.executable, "-m", "tests.cli.fakes"]
MODEL = ["-m", "qwen2-vl-2b"]  # a named model: no question of what this machine has


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """A state folder that is nobody's, and a width."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def illava():
    """Runs the real program in a process."""

    def run(*arguments: str, **options) -> subprocess.CompletedProcess:
        return processes.run([*ILLAVA, *arguments], **({"cwd": ROOT} | options))

    return run


@pytest.fixture
def sessions(monkeypatch):
    """The fake sessions that the command line makes in this test."""
    monkeypatch.setitem(sys.modules, "illava_cli.engine.opening", fakes.module())
    fakes.sessions.clear()
    return fakes.sessions


@pytest.fixture
def main(sessions, monkeypatch, capsys):
    """Runs the program in this process on fake sessions: (exit code, stdout, stderr)."""

    def run(*arguments: str, stdin: str | bytes = "") -> tuple[int, str, str]:
        from illava_cli.cli.app import main

        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def picture(tmp_path) -> str:
    """A file that is there; nobody reads it."""
    path = tmp_path / "my picture.png"
    path.write_bytes(b"png")
    return str(path)
