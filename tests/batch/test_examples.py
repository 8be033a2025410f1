"""The example scripts, as they are, on a few small files and the embedded model."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import picture
from tests.media_files import write_clip

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "scripts" / "examples"

pytestmark = pytest.mark.needs("bash")


@pytest.fixture
def script(tmp_path):
    """Runs an example with `illava` on the path."""
    program = tmp_path / "bin" / "illava"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m illava_cli.cli.app "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "ILLAVA_MODEL": "tiny",
        "ILLAVA_MAX_TILES": "1",
    }

    def run(name, *arguments):
        command = ["bash", EXAMPLES / name, *map(str, arguments)]
        return processes.run(command, cwd=tmp_path, env=environment)

    return run


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    picture(60, 50, 1).save(folder / "a.png")
    picture(60, 50, 2).save(folder / "deeper" / "b.png")
    (folder / "broken.jpg").write_text("no picture")
    return folder


def test_caption_photos(script, photos):
    done = script("caption_photos.sh", photos, "What shape?")
    assert done.returncode == 0, done.stderr
    captions = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.txt"))
    assert captions == ["a.png.txt", "deeper/b.png.txt"]
    assert (photos / "a.png.txt").read_text().strip()


@pytest.mark.needs("jq")
def test_ask_clips(script, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(ROOT / "illava_cli" / "assets" / "shapes.mp4", clips / "shapes.mp4")
    write_clip(clips / "b.mp4", frames=6)
    (clips / "broken.mp4").write_text("no clip")
    done = script("ask_clips.sh", clips, "Which way does the circle move?", "Right")
    assert done.returncode == 0, done.stderr
    assert f"{clips}/shapes.mp4" in done.stdout.splitlines()
    assert f"{clips}/broken.mp4" not in done.stdout


def test_nightly(script, photos, tmp_path):
    answers = tmp_path / "answers"
    done = script("nightly.sh", photos, answers, 0, 1)
    assert done.returncode == 0, (done.stderr, (answers / "0-of-1.log").read_text())
    ids = [json.loads(line)["id"] for line in (answers / "0-of-1.jsonl").read_text().splitlines()]
    assert sorted(ids) == sorted(f"{photos}/{name}" for name in ("a.png", "broken.jpg", "deeper/b.png"))
