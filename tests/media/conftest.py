"""Clips shared by the media tests, encoded once per run, and the ways to stand in for the outside."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from illava_cli.media import read_video
from tests.media_files import remux, write_clip

# How a test reads a clip: the back end asked for, and which ones are installed.
WAYS = {
    "decord": ("decord", "decord", "pyav"),
    "decord alone": ("decord", "decord"),
    "pyav": ("pyav", "pyav"),
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """24 frames at 12 per second each; the name says codec, timing and container."""
    folder = tmp_path_factory.mktemp("clips")
    made = {
        f"{codec}-{'vfr' if vfr else 'cfr'}": write_clip(folder / f"{codec}{vfr}.mp4", codec, vfr=vfr)
        for codec in ("h264", "mpeg4")
        for vfr in (False, True)
    }
    made["mkv"] = write_clip(folder / "clip.mkv")
    made["ts"] = remux(made["h264-cfr"], folder / "clip.ts")
    made["avi"] = write_clip(folder / "clip.avi", "mpeg4")
    return made


@pytest.fixture
def pipe_in(monkeypatch: pytest.MonkeyPatch):
    """Call with the bytes that stdin is to hold."""

    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))

    return pipe


@pytest.fixture
def only_installed(monkeypatch: pytest.MonkeyPatch):
    """Call with the names of the back ends that are to count as installed."""

    def only(*backends: str) -> None:
        monkeypatch.setattr("illava_cli.media.video._installed", lambda name: name in backends)

    return only


@pytest.fixture(params=WAYS)
def read(request: pytest.FixtureRequest, only_installed):
    """`read_video` through each back end, decord also as the only one there is."""
    backend, *installed = WAYS[request.param]
    only_installed(*installed)
    return lambda source, **options: read_video(source, backend=backend, **options)
