"""300 mixed inputs, 20 of them broken, under SIGKILL at random moments: nothing is lost, torn or twice."""

import json
import os
import random
import shutil
import signal
import time

import pytest

from tests.batch.program import Program
from tests.conftest import picture
from tests.media_files import cut_off, write_clip

BATCH = ["batch", "photos", "more.jsonl", "-p", "What?", "-m", "tiny", "--batch-size", "8", "--readers", "1"]
BATCH += ["--max-tiles", "1", "--num-frames", "2", "--max-tokens", "3"]
COMPARED = ("id", "status", "text", "finish_reason", "error", "prompt", "config_hash", "request_hash")
COMPARED += ("usage", "media")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """160 pictures and 40 clips, 12 of them broken; a manifest of 100 lines, 8 of which name no picture."""
    folder = tmp_path_factory.mktemp("inputs")
    photos = folder / "photos"
    photos.mkdir()
    clips = [write_clip(folder / f"clip-{n}.mp4", frames=6, size=(64, 48)) for n in range(3)]
    for number in range(160):
        path = photos / f"{number:03}.png"
        if number % 20 == 7:
            path.write_bytes(b"no picture")
        else:
            picture(40 + number % 30, 40 + number % 7, number).save(path)
    for number in range(40):
        path = photos / f"{number:03}.mp4"
        if number % 10 == 3:
            cut_off(clips[0], path, 0.1)
        else:
            shutil.copy(clips[number % 3], path)
    lines = []
    for number in range(100):
        names = [f"photos/{(number + k) % 160:03}.png" for k in range(8, 11) if (number + k) % 20 != 7]
        line = {"id": f"line-{number}", "images": names, "prompt": f"Which of {number}?"}
        if number % 13 == 5:
            line = {"id": f"line-{number}", "image": f"photos/gone-{number}.png"}
        elif number % 5 == 0:
            line = {"id": f"line-{number}", "video": "photos/000.mp4", "max_tokens": 2}
        lines.append(line)
    (folder / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def program(folder):
    program = Program(folder)
    yield program
    program.close()


def records(path):
    """By id; every line is whole, and no id is there twice."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    lines = [json.loads(line) for line in data.splitlines()]
    found = {line["id"]: {name: line[name] for name in COMPARED} for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def expected(folder, program):
    """What a run that nobody disturbs writes."""
    assert program.run(*BATCH, "-o", "whole.jsonl") == 3
    found = records(folder / "whole.jsonl")
    assert len(found) == 300
    assert sum(record["status"] == "error" for record in found.values()) == 20
    return found


def killed(program, path, after, rng):
    """A run that is killed when it has written `after` lines more, or a little later."""
    size = len(path.read_bytes().splitlines()) if path.exists() else 0
    pid = program.start(*BATCH, "-o", path.name)
    program.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= size + after)
    time.sleep(rng.random() * 0.2)
    os.kill(pid, signal.SIGKILL)
    return program.wait()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_no_kill_loses_or_tears_or_repeats_anything(kills, folder, program, expected):
    path = folder / f"killed-{kills}.jsonl"
    rng = random.Random(kills)
    for _ in range(kills):
        assert killed(program, path, rng.randint(1, 240 // kills), rng) == -signal.SIGKILL
    # as a power cut leaves it
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][: rng.randint(1, 200)])
    assert program.run(*BATCH, "-o", path.name) == 3
    assert records(path) == expected
    assert program.run(*BATCH, "-o", path.name) == 3
    assert "nothing to ask: 300 of 300" in program.said()
