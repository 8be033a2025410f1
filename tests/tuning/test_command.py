"""`illava tune` as it is run: the preset, the report, going on after a stop, and what it refuses."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from illava_cli.cli.app import main
from illava_cli.drawing import has_matplotlib
from illava_cli.evals.lanes import Lane
from tests.conftest import picture
from tests.processes import ROOT, run

SEARCH = ["--target", "speed=1.2x", "--schedules", "5", "--max-tokens", "2"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning") / "pictures"
    folder.mkdir()
    for number in range(6):
        picture(84 + 10 * number, 90, number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def searched(checkpoints, pictures):
    """The files of one search, by their names; `err` is what was said."""
    folder = pictures.parent
    files = {name: folder / f"found.{name}" for name in ("yaml", "md", "json", "jsonl", "png")}
    flags = {"yaml": "-o", "md": "--markdown", "json": "--save", "jsonl": "--answers", "png": "--plot"}
    arguments = ["-m", checkpoints("llava_onevision"), "--device", "cpu", "--images", pictures, *SEARCH]
    for name, path in files.items():
        if name != "png" or has_matplotlib():
            arguments += [flags[name], path]
    command = [sys.executable, "-m", "illava_cli.cli.app", "tune", *map(str, arguments)]
    done = run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return files | {"err": done.stderr, "arguments": [str(one) for one in arguments]}


@pytest.fixture
def tune(capsys, checkpoints, tmp_path):
    """Runs the command in this process: exit code, report, stderr."""

    def run(*arguments):
        common = ["tune", "-m", checkpoints("llava_onevision"), "--device", "cpu", "--format", "json"]
        code = main([*common, "-o", str(tmp_path / "found.yaml"), *SEARCH, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def test_the_report_has_what_was_tried_and_chosen(searched):
    report = json.loads(searched["json"].read_text())
    found = report["kinds"]["image"]
    assert (found["search_questions"], found["check_questions"]) == (16, 8)
    assert len(found["schedules"]) >= 5
    assert found["kept"]
    (chosen,) = [row for row in found["finalists"] if row["chosen"]]
    assert chosen["speed"] >= 1.2
    assert chosen["measured"] > 0
    assert chosen["check"]["answered"] == 8
    assert chosen["check"]["accuracy"] is None
    best = max(row["search"]["agreement"]["value"] for row in found["finalists"] if row["speed"] >= 1.2)
    assert chosen["search"]["agreement"]["value"] == best


def test_the_preset_says_where_it_comes_from(searched):
    text = searched["yaml"].read_text()
    found = json.loads(searched["json"].read_text())["kinds"]["image"]
    assert found["questions_hash"] in text
    assert "# videos: whole, none were asked about" in text  # auto does not fit so small a model
    assert str(searched["yaml"].parent) not in text + searched["md"].read_text()
    assert "| images, 8 questions | operations |" in searched["md"].read_text()
    assert f"use --preset {searched['yaml']}" in searched["err"]
    assert "\x1b" not in searched["err"]


@pytest.mark.skipif(not has_matplotlib(), reason="needs matplotlib")
def test_what_was_tried_is_drawn(searched):
    with Image.open(searched["png"]) as image:
        assert image.width > 300


def test_a_rerun_asks_nothing_twice_and_finds_the_same(searched, monkeypatch, capsys):
    asked, ask = [], Lane.ask
    first = json.loads(searched["json"].read_text())["kinds"]["image"]

    def counted(self, samples, *rest):
        asked.extend(samples)
        return ask(self, samples, *rest)

    monkeypatch.setattr(Lane, "ask", counted)
    arguments = [one for one in searched["arguments"] if one not in ("--plot", str(searched["png"]))]
    assert main(["tune", *arguments, "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)["kinds"]["image"]
    assert not asked
    assert again["schedules"] == first["schedules"]
    assert again["rounds"] == first["rounds"]
    assert [row["name"] for row in again["finalists"]] == [row["name"] for row in first["finalists"]]


def test_questions_of_both_kinds_give_a_schedule_each(tune, tmp_path):
    arguments = ["--tasks", "world:colour,video-first", "--questions", "48", "--target", "agreement=100%"]
    code, report, err = tune(*arguments)
    assert code == 0
    assert set(report["kinds"]) == {"image", "video"}
    for kind, found in report["kinds"].items():
        assert (found["search_questions"], found["check_questions"]) == (16, 8)
        said = f"illava: no schedule for {kind}s keeps agreement=100%"
        assert (said in err) == (not found["kept"])
    assert "{image: " in (tmp_path / "found.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--target", "fast"], 2, "--target fast: expected speed=2x"),
        (["--target", "speed=1000x"], 2, "--target speed=1000x: of the"),
        (["--target", "accuracy=-1"], 2, "some questions have no right answer"),
        (["-o", "found.txt"], 2, "name one that ends in .yaml"),
        (["--images", "missing"], 1, "missing"),
        (["--tasks", "world:colour", "--questions", "5", "--limit", "1"], 2, "give at least 8"),
        (["--schedules", "1"], 2, "--schedules"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, code, said, tune, pictures):
    given, _, err = tune("--images", pictures, *arguments)
    assert given == code
    assert err.splitlines()[-1].startswith("illava: error: ")
    assert said in err.splitlines()[-1]
