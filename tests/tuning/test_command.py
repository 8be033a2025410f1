"""`illava tune` as it is run: the preset, the report, going on after a stop, and what it refuses."""

import json

import pytest
from PIL import Image

from illava_cli.cli.app import main
from illava_cli.drawing import has_matplotlib
from illava_cli.evals.lanes import Lane
from tests.conftest import picture


@pytest.fixture
def tune(capsys, checkpoints, tmp_path):
    """Runs the command in this process: exit code, report, stderr."""

    def run(*arguments, model="llava_onevision"):
        common = [
            "tune",
            "-m",
            checkpoints(model),
            "--device",
            "cpu",
            "--max-tokens",
            "2",
            "--format",
            "json",
        ]
        found = ["-o", tmp_path / "found.yaml", "--schedules", "5"]
        code = main([*common, *map(str, found), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        picture(84 + 10 * number, 90, number).save(folder / f"{number}.png")
    return folder


def test_pictures_without_questions(tune, pictures, tmp_path):
    page, saved = tmp_path / "page.md", tmp_path / "report.json"
    code, report, err = tune(
        "--images", pictures, "--target", "speed=1.2x", "--markdown", page, "--save", saved
    )
    assert code == 0, err
    assert json.loads(saved.read_text()) == report
    found = report["kinds"]["image"]
    assert (found["search_questions"], found["check_questions"]) == (16, 8)
    (chosen,) = [row for row in found["finalists"] if row["chosen"]]
    assert chosen["speed"] >= 1.2
    assert chosen["measured"] > 0
    assert chosen["check"]["answered"] == 8
    assert chosen["check"]["accuracy"] is None
    assert "| images, 8 questions | operations |" in page.read_text()
    text = (tmp_path / "found.yaml").read_text()
    assert found["questions_hash"] in text
    assert "# videos: whole, none were asked about" in text
    assert str(tmp_path) not in text + page.read_text()
    assert f"use --preset {tmp_path / 'found.yaml'}" in err


@pytest.mark.skipif(not has_matplotlib(), reason="needs matplotlib")
def test_what_was_tried_is_drawn(tune, pictures, tmp_path):
    path = tmp_path / "tried.png"
    code, _, err = tune("--images", pictures, "--target", "speed=1.2x", "--plot", path)
    assert code == 0, err
    with Image.open(path) as image:
        assert image.width > 300


def test_a_search_is_the_same_each_time(tune, pictures):
    first, again = (
        tune("--images", pictures, "--target", "speed=1.2x")[1]["kinds"]["image"] for _ in range(2)
    )
    assert first["schedules"] == again["schedules"]
    assert [row["name"] for row in first["finalists"]] == [row["name"] for row in again["finalists"]]


def test_a_rerun_asks_nothing_twice(tune, pictures, tmp_path, monkeypatch):
    arguments = ["--images", pictures, "--target", "speed=1.2x", "--answers", tmp_path / "answers.jsonl"]
    _, first, _ = tune(*arguments)
    asked = []
    ask = Lane.ask
    monkeypatch.setattr(
        Lane, "ask", lambda self, samples, *rest: asked.extend(samples) or ask(self, samples, *rest)
    )
    _, again, _ = tune(*arguments)
    assert not asked
    assert again["kinds"]["image"]["rounds"] == first["kinds"]["image"]["rounds"]


def test_questions_of_both_kinds_give_a_schedule_each(tune, tmp_path):
    code, report, _ = tune(
        "--tasks", "world:colour,video-first", "--questions", "48", "--target", "agreement=10%"
    )
    assert code == 0
    assert set(report["kinds"]) == {"image", "video"}
    assert "{image: " in (tmp_path / "found.yaml").read_text()
    for found in report["kinds"].values():
        assert (found["search_questions"], found["check_questions"]) == (16, 8)


def test_a_target_that_none_keeps_is_told(tune, pictures):
    code, report, err = tune("--images", pictures, "--target", "agreement=100%", "--max-tokens", "8")
    assert code == 0
    if not report["kinds"]["image"]["kept"]:
        assert "illava: no schedule for images keeps agreement=100%" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "fast"], "--target fast: expected speed=2x"),
        (["--target", "speed=1000x"], "--target speed=1000x: of the"),
        (["--target", "accuracy=-1", "--images", "PICTURES"], "some questions have no right answer"),
        (["-o", "found.txt"], "name one that ends in .yaml"),
        (["--images", "missing"], "missing"),
        (["--tasks", "world:colour", "--questions", "5"], "give at least 8"),
        (["--schedules", "1"], "--schedules"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, said, tune, pictures):
    arguments = [pictures if a == "PICTURES" else a for a in arguments]
    if not any(str(a).startswith("--images") or a == "--tasks" for a in arguments):
        arguments += ["--images", pictures]
    code, _, err = tune(*arguments)
    assert code == (1 if "missing" in arguments else 2)
    assert err.splitlines()[-1].startswith("illava: error: ")
    assert said in err.splitlines()[-1]
