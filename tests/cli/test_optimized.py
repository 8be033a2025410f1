"""`python -OO` strips docstrings, of which help texts are made, and asserts: the program stays the same."""

import json
import os
import sys

import pytest
import typer

from illava_cli.cli.app import app
from illava_cli.cli.commands import Announced
from tests.cli.conftest import ILLAVA, ROOT
from tests.processes import run

SHAPES = "illava_cli/assets/shapes.jpg"
QUESTION = ("-m", "tiny", "--image", SHAPES, "-p", "What shape is the red one?", "--device", "cpu")


@pytest.fixture
def optimized():
    """Runs the program under PYTHONOPTIMIZE, in a process."""

    def start(level: int, *arguments: str):
        environment = {**os.environ, "PYTHONOPTIMIZE": str(level)}
        return run([*ILLAVA, *arguments], cwd=ROOT, env=environment)

    return start


def commands(group=None, path=()):
    """The words of every command of the program."""
    group = typer.main.get_command(app) if group is None else group
    yield path
    for name, command in getattr(group, "commands", {}).items():
        whole = command.command() if isinstance(command, Announced) else command
        yield from commands(whole, (*path, name))


HELPS = """
import json, sys
from typer.testing import CliRunner
from illava_cli.cli.app import app
told = [CliRunner().invoke(app, words, prog_name="illava").stdout for words in json.load(sys.stdin)]
json.dump(told, sys.stdout)
"""


def test_every_help_and_the_schema_are_the_same():
    asked = [[*words, "--help"] for words in commands()] + [["config", "schema"]]
    told = []
    for level in ("0", "2"):
        environment = {**os.environ, "PYTHONOPTIMIZE": level}
        done = run([sys.executable, "-c", HELPS], input=json.dumps(asked), cwd=ROOT, env=environment)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    for words, plain, stripped in zip(asked, *told, strict=True):
        assert stripped == plain, words
    assert "Ask one question about images and videos." in told[0][asked.index(["run", "--help"])]


def test_a_question_is_answered(optimized):
    done = optimized(2, "run", *QUESTION, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "circle\n", "")


def test_a_batch_is_answered_with_readers(optimized, tmp_path):
    out = tmp_path / "out.jsonl"
    done = optimized(2, "batch", SHAPES, "-m", "tiny", "-p", "What?", "--readers", "1", "-o", str(out), "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(out.read_text())["status"] == "ok"


def test_an_error_is_one_line(optimized):
    done = optimized(2, "run", "-m", "tinny", "-p", "x")
    assert done.returncode == 2
    assert done.stderr.startswith("illava: error: unknown model 'tinny'; did you mean 'tiny'?")
    assert done.stderr.count("\n") == 1
