"""A clip that is cut off or damaged is used as far as it goes; what is no clip is named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from illava_cli.errors import MediaError
from illava_cli.media import read_video
from tests.media.reading import numbers
from tests.media_files import cut_off, write_clip, write_jpeg


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "mp4"), ("h264", "mkv"), ("mpeg4", "mp4")])
def test_cut_off_clip_is_used_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, suffix: str
):
    whole = write_clip(tmp_path / f"whole.{suffix}", codec, frames=96)
    path = cut_off(whole, tmp_path / f"cut.{suffix}", 0.6)
    found = []
    for backend in ("decord", "pyav"):
        medium = read_video(path, backend=backend)
        # The last frames may lack the ones shown before them, so count by time and not by index.
        assert numbers(medium) == [round(time * 12) for time in medium.timestamps]
        assert numbers(medium)[:24] == list(range(24))
        assert len(medium.frames) < 90
        found.append(numbers(medium))
        assert numbers(read_video(path, num_frames=2, backend=backend)) == [found[0][0], found[0][-1]]
    assert found[0] == found[1]
    assert "is cut off" in caplog.text
    assert all(record.name == "illava" and record.levelno == logging.WARNING for record in caplog.records)


def test_cut_off_clip_says_when_the_window_is_gone(tmp_path: Path):
    path = cut_off(write_clip(tmp_path / "whole.mp4", frames=96), tmp_path / "cut.mp4", 0.6)
    with pytest.raises(MediaError, match=r"cut\.mp4: no frame lies within 7\.9 s to the end"):
        read_video(path, start=7.9)


def test_whole_clip_is_not_called_cut_off(clips: dict[str, Path], caplog: pytest.LogCaptureFixture):
    for path in clips.values():
        read_video(path, num_frames=2)
    assert not caplog.records


def test_damage_in_the_middle_costs_only_what_it_hits(
    clips: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = bytearray(clips["h264-cfr"].read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = bytes((7 * k) % 251 for k in range(400))
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    for backend in ("decord", "pyav"):
        medium = read_video(path, backend=backend)
        assert 0 in medium.indices
        assert len(medium.frames) < 24
        assert list(medium.timestamps) == pytest.approx([index / 12 for index in medium.indices], abs=1e-3)
    assert "15 of the 24 frames asked for are damaged" in caplog.text


def test_what_is_no_clip_is_named(read, tmp_path: Path):
    files = {
        "a.mp4": (
            write_jpeg(tmp_path / "x.jpg").read_bytes(),
            "a JPEG image, not a video; give it with --image",
        ),
        "b.mp4": (b"<html></html>", "an HTML page"),
        "c.mp4": (b"", "the file is empty"),
        "d.mp4": (bytes(range(128, 256)) * 20, "cannot be read"),
        "e.mp4": (b"RIFF\0\0\0\0WAVEfmt ", "a WAV audio file"),
    }
    for name, (data, words) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=f"{name}: .*{words}") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match=r"none\.mp4: no such file"):
        read(tmp_path / "none.mp4")
    with pytest.raises(MediaError, match="is a directory"):
        read(tmp_path)


def test_sound_without_pictures(read, tmp_path: Path):
    with pytest.raises(MediaError, match=r"sound\.mp4: .*has no video stream"):
        read(write_clip(tmp_path / "sound.mp4", audio_only=True))


def test_header_without_the_rest(read, clips: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture):
    for keep in (0.02, 0.3):
        with pytest.raises(MediaError, match=r"head\.mp4: "):
            read(cut_off(clips["h264-cfr"], tmp_path / "head.mp4", keep))
    assert capfd.readouterr().err == ""


def test_clip_without_a_single_frame(read, clips: dict[str, Path], tmp_path: Path):
    data = clips["h264-cfr"].read_bytes()
    # Everything up to the frame data: the header promises frames, none is there.
    path = tmp_path / "none.mp4"
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(MediaError, match=r"none\.mp4: "):
        read(path)


def test_window_outside_the_clip(read, clips: dict[str, Path]):
    with pytest.raises(MediaError, match=r"\.mp4: no frame lies within 5 s to the end; .* at 1\.917 s"):
        read(clips["h264-cfr"], start=5)
