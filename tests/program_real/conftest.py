"""Media as cameras write them, and the program on them: in a process of its own, or in this one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import picture
from tests.media_files import write_clip, write_jpeg
from tests.processes import Process
from tests.program_real.records import TOKENS

PROGRAM = Path(sys.executable).with_name("illava")
PRESETS = {
    "llava_onevision": """\
layout: grid
vision: {layers: [1, 3], r: [11, 9]}
llm: {layers: [2, 4], keep: [0.7, 0.8]}
""",
    "qwen2_vl": """\
layout: faithful
vision: {layers: [1, 3], drop: 0.2}
llm: {layers: [2, 4], keep: [0.7, 0.8], queries: last}
""",
    "qwen3_vl": """\
layout: faithful
vision: {layers: [0, 3], drop: 0.2}
llm: {layers: [1, 4], keep: [0.7, 0.8], queries: last}
""",
    "qwen3_5": """\
layout: faithful
vision: {layers: [1, 3], drop: 0.2}
llm: {layers: [2, 4], keep: [0.7, 0.8], queries: last}
""",
    "gemma4": """\
layout: faithful
vision: {layers: [1, 3], drop: 0.2}
input: {keep: 0.7}
""",
    "internvl": """\
layout: faithful
vision: {layers: [1, 3], drop: 0.2}
llm: {layers: [2, 4], keep: [0.7, 0.8], queries: last}
""",
    "qwen2_5_vl": """\
layout: faithful
vision: {layers: [1, 4], drop: 0.2}
llm: {layers: [2, 4], keep: [0.7, 0.8], queries: last}
""",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Pictures, clips and presets; the questions name them relative to it."""
    folder = tmp_path_factory.mktemp("real input")
    write_jpeg(folder / "turned.jpg", (160, 96), orientation=6)  # a portrait, stored on its side
    picture(120, 90, seed=5).save(folder / "wide.png")
    for codec in ("h264", "mpeg4"):
        write_clip(folder / f"{codec}.mp4", codec)
        write_clip(folder / f"{codec}-vfr.mp4", codec, vfr=True)
    write_clip(folder / "turned.mp4", rotation=90)
    for family, preset in PRESETS.items():
        (folder / f"{family}.yaml").write_text(preset)
    return folder


@pytest.fixture(scope="session")
def model(checkpoints, folder):
    """The flags of a small checkpoint under a schedule that merges at every place."""

    def flags(family: str) -> list[str]:
        preset = ["--preset", str(folder / f"{family}.yaml"), "--max-tokens", str(TOKENS)]
        return ["-m", checkpoints(family), *preset, "--device", "cpu"]

    return flags


@pytest.fixture
def start(model, folder, tmp_path):
    """Starts the installed command in the folder of the media, away from the repository.

    torchvision cannot be imported there, as where it is not installed.
    """
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torchvision'] = None")
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "LC_ALL": "C"}
    started: list[Process] = []

    def start(command: str, family: str, *arguments: str, stdin: str = "") -> Process:
        process = Process(
            [PROGRAM, command, *model(family), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
        )
        started.append(process)
        process.stdin.write(stdin.encode())
        process.stdin.close()
        process.stdin = None  # or `communicate` would close it once more
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def main(model, folder, monkeypatch, capfd):
    """Runs `illava run` in this process, as if in the folder of the media: (exit code, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def run(family: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        from illava_cli.cli.app import main

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        flags = model(family)
        capfd.readouterr()  # what writing the checkpoint said
        return main(["run", *flags, *arguments]), *capfd.readouterr()

    return run
