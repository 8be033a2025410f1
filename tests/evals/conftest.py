"""A small checkpoint, questions about small pictures, and schedules that fit both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from illava_cli.cli.app import main
from illava_cli.evals.runner import Runner
from illava_cli.evals.sample import EvalSample
from tests.conftest import clip, picture
from tests.processes import Process

ROOT = Path(__file__).parents[2]
ILLAVA = [sys.executable, "-m", "illava_cli.cli.app"]
MERGING = (
    "merging: preset=off layout=faithful vision={layers: [1, 3], r: [11, 9]} llm={layers: [2], keep: 0.5}"
)


@pytest.fixture
def samples():
    """Five questions: three of one task, one without a known answer, one about a clip."""
    return [
        EvalSample("a", "one", "What?", "x", images=(picture(84, 84, 1),)),
        EvalSample("b", "one", "And what is this here?", "x", ("x", "y"), images=(picture(100, 60, 2),)),
        EvalSample("c", "one", "This <image>?", "x", images=(picture(60, 100, 3),)),
        EvalSample("d", "two", "These?", None, images=(picture(84, 84, 4), picture(84, 84, 5))),
        EvalSample("e", "clip", "Then?", "x", videos=(clip(3, 60, 60),)),
    ]


@pytest.fixture
def task_file(tmp_path):
    """The same kinds of questions as a file, with the pictures beside it."""
    folder = tmp_path / "questions"
    folder.mkdir()
    lines = []
    for number in range(6):
        picture(84 + number, 90, number).save(folder / f"{number}.png")
        line = {"image": f"{number}.png", "prompt": f"Number {number}?", "answer": "red"}
        lines.append(line | ({"task": "odd"} if number % 2 else {}))
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def common(checkpoints):
    """The flags of every run on the small checkpoint."""

    def flags(family="llava_onevision"):
        return ["eval", "-m", checkpoints(family), "--device", "cpu", "--max-tokens", "2"]

    return flags


@pytest.fixture
def evaluate(capsys, common):
    """Runs the command in this process: exit code, report (or what stdout held), stderr."""

    def run(*arguments, family="llava_onevision"):
        code = main([*common(family), "--format", "json", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


@pytest.fixture
def start(common):
    """Starts the command in a process of its own."""

    def run(*arguments, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT} | options
        return Process([*ILLAVA, *common(), *map(str, arguments)], **options)

    return run


@pytest.fixture
def stop_in(monkeypatch):
    """Ctrl-C while a batch is asked, counted over all models from 1."""

    def at(number):
        asked, batches = Runner._ask_all, iter(range(1, 100))

        def interrupted(self, *arguments):
            if next(batches) == number:
                raise KeyboardInterrupt
            asked(self, *arguments)

        monkeypatch.setattr(Runner, "_ask_all", interrupted)

    return at
