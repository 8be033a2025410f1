"""The program in this process, on small real checkpoints, and good and bad media."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import pytest

from tests.media_files import cut_off, quadrants, write_clip, write_jpeg
from tests.program_broken.lines import LLAVA, OFF


@pytest.fixture
def main(monkeypatch, capfd, tmp_path):
    """Runs the program in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        from illava_cli.cli.app import main

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfd.readouterr()
        code = main(list(arguments))
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def run(main, checkpoints):
    """`illava run` on a small checkpoint with merging off."""

    def run(*arguments: str, family: str = LLAVA) -> tuple[int, str, str]:
        return main("run", "-m", checkpoints(family), *OFF, *arguments)

    return run


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Good and bad media."""
    folder = tmp_path_factory.mktemp("media")
    good = write_jpeg(folder / "good.jpg", (96, 64))
    (folder / "empty.jpg").touch()
    cut_off(good, folder / "truncated.jpg", 0.6)
    (folder / "text.jpg").write_text("This is no picture.\n")
    quadrants((96, 64)).save(folder / "png.jpg", "PNG")
    (folder / "bomb.png").write_bytes(bomb(60_000, 60_000))

    clip = write_clip(folder / "good.mp4", frames=60)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no clip.\n")
    write_clip(folder / "sound.mp4", audio_only=True)
    cut_off(clip, folder / "cut.mp4", 0.8)
    write_clip(folder / "one.mp4", frames=1)
    data = clip.read_bytes()
    (folder / "none.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    (folder / "codec.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    return folder


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is `width` by `height` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
