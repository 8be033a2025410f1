"""`illava tune` as it is run: the preset, the report, going on after a stop, and what it refuses."""

import json
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from PIL import Image

from illava_cli.cli.app import main
from illava_cli.cli.tune import _missed
from illava_cli.drawing import has_matplotlib
from illava_cli.evals.lanes import Lane
from illava_cli.tuning import report, search
from illava_cli.tuning.questions import parts
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
    (chosen,) = [row for row in found["finalists"] if row["chosen"]]
    assert chosen["speed"] >= 1.2
    assert chosen["measured"] is not None
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


def test_rounds_narrow_down_and_neighbours_join(checkpoints, pictures, tmp_path, monkeypatch, capsys):
    """The second round has some of the first's schedules and new ones; nobody asks the reference twice."""
    monkeypatch.setattr(search, "LEAST", 5)
    asked, ask = Counter(), search.Reference.ask

    def counted(self, samples, *rest):
        asked.update(sample.id for sample in samples if sample.id not in self.answers)
        return ask(self, samples, *rest)

    monkeypatch.setattr(search.Reference, "ask", counted)
    arguments = ["--images", str(pictures), "-o", str(tmp_path / "a.yaml"), "--format", "json", *SEARCH]
    arguments += ["--schedules", "12", "--target", "agreement=50%"]
    drawn = []
    if has_matplotlib():
        monkeypatch.setattr(report, "save", lambda figure, path: drawn.append(figure))
        arguments += ["--plot", str(tmp_path / "a.png")]
    assert main(["tune", "-m", checkpoints("llava_onevision"), "--device", "cpu", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)["kinds"]["image"]
    first, second = found["rounds"]
    assert (first["questions"], second["questions"]) == (5, 16)
    assert 3 <= len(set(first["figures"]) & set(second["figures"])) < len(first["figures"])
    assert set(second["figures"]) - set(first["figures"])
    assert set(asked.values()) == {1}
    assert len(asked) == 24
    for figure in drawn:
        (axes,) = figure.axes
        points = axes.containers
        assert len(points) == len(set(first["figures"]) | set(second["figures"]))
        assert all(point.has_yerr for point in points)  # those that left early too
        low, high = axes.get_ylim()
        assert high - low >= 100  # of 16 questions one is six points


def test_a_picture_that_cannot_be_read_costs_its_questions_only(checkpoints, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        picture(84 + 10 * number, 90, number).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    arguments = ["--images", str(folder), "-o", str(tmp_path / "a.yaml"), "--format", "json", *SEARCH]
    code = main(["tune", "-m", checkpoints("llava_onevision"), "--device", "cpu", *arguments])
    out, err = capsys.readouterr()
    assert code == 3
    assert (tmp_path / "a.yaml").exists()
    (chosen,) = [row for row in json.loads(out)["kinds"]["image"]["finalists"] if row["chosen"]]
    assert chosen["measured"] is not None
    assert "broken.png" in err
    assert "4 of 20 questions failed" in err


def test_questions_about_a_picture_stay_together(pictures):
    found = parts([], [str(pictures)], 0, None, 0)["image"]
    assert not {one.images for one in found.search} & {one.images for one in found.check}
    assert {len([o for o in found.all if o.images == one.images]) for one in found.all} == {4}


def test_a_failure_is_no_agreement():
    """Of ten questions that the reference answered a schedule answers two, the same as it."""
    lane = search.Search.figures
    found = {"agreement": {"hits": 2, "n": 2}, "difference": {"value": 0.0, "high": 0.1}, "kl": 0.0}
    figures = lane(SimpleNamespace(marked=True), 2.0, found, {"answered": 10})
    assert figures.agreement[0] == 0.2
    assert figures.accuracy[0] == pytest.approx(-0.8)


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
        said = f"illava: agreement=100% is not kept for {kind}s in the check"
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
        (["--set", "llm.keep=0.5"], 2, "llm: the schedule is what illava tune searches"),
        (["--set", "generation.temperature=1"], 2, "generation.temperature at 0"),
        (["--images", "-"], 2, "questions go to --tasks"),
        (["--images", "mine.jsonl"], 2, "questions go to --tasks"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, code, said, tune, pictures):
    given, _, err = tune("--images", pictures, *arguments)
    assert given == code
    assert err.splitlines()[-1].startswith("illava: error: ")
    assert said in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("target", "measured", "said"),
    [
        ("speed=2.4x", 1.6, "by the clock: 2.41x fewer operations are 1.60x here"),
        ("speed=2.4x", None, "in the check: the nearest schedule was taken"),
        ("agreement=99%", 1.6, "in the check: the nearest schedule was taken"),
    ],
)
def test_what_is_missed_is_said(target, measured, said):
    finalists = [{"chosen": False}, {"chosen": True, "speed": 2.406, "measured": measured}]
    assert _missed({"target": target}, {"finalists": finalists}) == said
