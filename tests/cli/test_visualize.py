"""`illava visualize`, `run --compare` and `run --save-merge-map` on the embedded model."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from illava_cli.cli.app import main as program

ASSETS = Path(__file__).parents[2] / "illava_cli" / "assets"
SHAPES, CLIP = str(ASSETS / "shapes.jpg"), str(ASSETS / "shapes.mp4")
TINY = ["-m", "tiny", "-p", "What shape is the red one?", "--device", "cpu", "--max-tokens", "3"]
QUICK = [*TINY, "--max-tiles", "1"]


@pytest.fixture
def real(monkeypatch, capsys):
    """Runs the program in this process on the embedded model: (exit code, stdout, stderr)."""

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        return program(list(arguments)), *capsys.readouterr()

    return run


def payload(page: Path) -> dict:
    """What a page was given."""
    return json.loads(re.search(r'id="payload">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1])


def test_a_page_into_a_folder_that_is_made(real, tmp_path):
    folder = tmp_path / "new" / "map"
    code, out, err = real("visualize", *TINY, "--image", SHAPES, "-o", str(folder), "--png")
    assert (code, out) == (0, f"{folder / 'index.html'}\n")
    shown = payload(folder / "index.html")
    assert shown["title"] == "shapes.jpg"
    assert [view["label"] for view in shown["media"][0]["views"]][:2] == ["overview", "tile 1,1"]
    assert [stage["tokens"] for stage in shown["stages"]] == [720, 570, 420, 420, 227]
    assert all(stage["seconds"] > 0 for stage in shown["stages"])
    answers = shown["answers"]
    assert answers["plain"]["usage"]["visual"]["llm_kept"] == 720
    assert answers["merged"]["memory"]["peak_bytes"] > 1e6
    assert answers["agreement"]["kl"] >= 0
    for name in ("tokens.png", "attention-tower.png", "attention-llm.png"):
        with Image.open(folder / name) as image:
            assert image.width > 1000
        assert str(folder / name) in err


def test_a_video_without_the_unmodified_model(real, tmp_path):
    page = tmp_path / "page.html"
    arguments = ["--video", CLIP, "--num-frames", "3", "--no-compare", "-o", str(page), "-q"]
    assert real("visualize", *TINY, *arguments) == (0, f"{page}\n", "")
    shown = payload(page)
    assert shown["answers"]["plain"] is None
    assert shown["media"][0]["views"][0]["label"] == "frame 0 (0.0 s)"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_picture_from_stdin_is_read_once(real, tmp_path):
    page = tmp_path / "page.html"
    code, _, _ = real("visualize", *QUICK, "--image", "-", "-o", str(page), stdin=Path(SHAPES).read_bytes())
    assert code == 0
    assert payload(page)["media"][0]["source"] == "stdin"


def test_nothing_merged_is_a_page_too(real, tmp_path):
    page = tmp_path / "page.html"
    assert real("visualize", *QUICK, "--preset", "off", "--image", SHAPES, "-o", str(page))[0] == 0
    shown = payload(page)
    assert {stage["tokens"] for stage in shown["stages"]} == {144}
    assert shown["answers"]["plain"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-o", "TMP/page.html"], 2, "give --image or --video"),
        (["--image", "missing.png", "-o", "TMP/page.html"], 1, "missing.png: no such file"),
        (["--image", SHAPES, "-o", "TMP/no/page.html"], 1, "does not exist"),
        (["--image", SHAPES, "-o", "TMP/file"], 1, "TMP/file is a file: name a folder"),
        (["--image", SHAPES, "-o", "TMP/file/map"], 1, "cannot make the folder TMP/file/map"),
        (["--image", SHAPES, "-o", "-"], 2, "does not go to stdout"),
        (["--image", SHAPES, "-o", "TMP/page.html", "--png"], 2, "give a folder"),
        (["--image", SHAPES, "-o", "TMP/page.html", "--temperature", "1"], 2, "leave temperature at 0"),
        (["--image", SHAPES], 2, "'-o'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_told_before_a_model_loads(main, sessions, tmp_path, arguments, code, said):
    (tmp_path / "file").write_text("")
    arguments = [argument.replace("TMP", str(tmp_path)) for argument in arguments]
    done, out, err = main("visualize", "-m", "qwen2-vl-2b", "-p", "x", *arguments)
    assert (done, out) == (code, "")
    assert said.replace("TMP", str(tmp_path)) in err.splitlines()[-1]
    assert len(err.splitlines()) == 1
    assert not sessions
    assert [path.name for path in tmp_path.iterdir() if path.name != "state"] == ["file"]


def test_a_broken_picture_is_one_line(real, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(SHAPES).read_bytes()[:3000])
    code, out, err = real("visualize", *QUICK, "--image", str(broken), "-o", str(tmp_path / "map"))
    assert (code, out) == (1, "")
    assert "damaged" in err.splitlines()[-1]


def test_compare_shows_both_answers(real):
    code, out, err = real("run", *QUICK, "--image", SHAPES, "--compare")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["off", "auto"]
    assert any(line.split()[:3] == ["visual", "tokens", "144"] for line in lines)
    assert lines[-1].split(";")[0] in ("the same tokens", "they differ from token 1 on")
    assert "visual tokens |" in err


def test_compare_as_json_is_the_merged_record_and_the_other_in_it(real, tmp_path):
    target = tmp_path / "out.json"
    arguments = ["--image", SHAPES, "--compare", "--format", "json", "--id", "q", "-o", str(target), "-q"]
    assert real("run", *QUICK, *arguments) == (0, "", "")
    record = json.loads(target.read_text())
    plain, agreement = record["compared"]["plain"], record["compared"]["agreement"]
    assert (record["id"], record["preset"], plain["preset"]) == ("q", "auto", "off")
    assert record["usage"]["visual"]["llm_kept"] < plain["usage"]["visual"]["llm_kept"] == 144
    assert min(r["memory"]["peak_bytes_beyond_weights"] for r in (record, plain)) > 1e5
    assert agreement["same"] == (record["text"] == plain["text"])
    assert agreement["kl"] >= 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compare", "--stream"], "leave out --stream"),
        (["--compare", "--temperature", "1"], "leave temperature at 0"),
        (["--save-merge-map", "map"], "give --image or --video"),
        (["--image", SHAPES, "--save-merge-map", "-"], "does not go to stdout"),
    ],
)
def test_what_does_not_go_together(main, sessions, arguments, said):
    code, out, err = main("run", "-m", "qwen2-vl-2b", "-p", "x", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not sessions


@pytest.mark.parametrize("method", [[], ["--set", "llm.method=random"]], ids=["", "a method and no layer"])
def test_compare_needs_something_that_merges(real, method):
    code, out, err = real("run", *QUICK, "--image", SHAPES, "--preset", "off", *method, "--compare")
    assert (code, out) == (2, "")
    assert "nothing merges here" in err


def test_a_merge_map_beside_the_answer(real, tmp_path):
    code, out, _ = real("run", *QUICK, "--image", SHAPES, "--save-merge-map", str(tmp_path / "map"))
    assert (code, out) == (0, "circle\n")
    assert payload(tmp_path / "map" / "index.html")["answers"]["merged"]["text"] == "circle"


@pytest.mark.parametrize("command", [["visualize", "-o"], ["run", "--save-merge-map"]], ids=" ".join)
def test_no_map_of_parts_that_a_guide_chose(real, guide_folders, tmp_path, command):
    guide = ["--set", f"guide.model={guide_folders('clip-crop')}", "--set", "guide.method=clip-crop"]
    code, out, err = real(*command, str(tmp_path / "map"), *QUICK, *guide, "--image", SHAPES)
    assert (code, out) == (2, "")
    assert "clip-crop" in err
