"""Time counts from the container's start, as players and `ffmpeg -ss` count; a late start is no cut."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from illava_cli.media import read_video
from tests.media_files import cut_off, frame_number, remux, write_clip

BACKENDS = ("auto", "decord", "pyav")


def moved(source: Path, target: Path, hours: float) -> Path:
    """All streams of a clip, later."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        copies = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.size:
                shift = round(hours * 3600 / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copies[packet.stream.index]
                made.mux(packet)
    return target


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_pictures_that_come_after_the_sound_are_late(tmp_path: Path, caplog, suffix: str, backend: str):
    path = write_clip(tmp_path / f"late.{suffix}", frames=60, sound=True, late_s=2.0)
    medium = read_video(path, start=3.0, num_frames=1, backend=backend)
    (number,) = (frame_number(frame) for frame in medium.frames)
    with av.open(str(path)) as container:
        start = Fraction(container.start_time, 1_000_000)
        expected = next(
            k for k, f in enumerate(container.decode(video=0)) if f.pts * f.time_base - start > 3 - 5e-4
        )
    assert number == expected
    assert abs(number - 12) <= 1  # a container may let the sound begin a bit before 0
    assert medium.timestamps[0] == pytest.approx(2 + number / 12, abs=0.1)
    assert "cut off" not in caplog.text


def test_a_late_start_counts_exactly(tmp_path: Path):
    path = write_clip(tmp_path / "late.mp4", frames=60, sound=True, late_s=2.0)
    medium = read_video(path, start=3.0, end=4.0)
    assert medium.indices == tuple(range(12, 25))
    assert medium.timestamps == pytest.approx([index / 12 + 2 for index in range(12, 25)], abs=1e-4)


def test_a_late_start_hides_no_cut(tmp_path: Path, caplog):
    whole = write_clip(tmp_path / "late.mkv", frames=96, sound=True, late_s=2.0)
    medium = read_video(cut_off(whole, tmp_path / "cut.mkv", 0.6), backend="pyav")
    assert len(medium.frames) < 90
    assert "cut.mkv: is cut off" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broadcast_that_starts_after_hours_begins_at_zero(tmp_path: Path, caplog, backend: str):
    clip = write_clip(tmp_path / "clip.mp4", frames=60, sound=True)
    path = moved(clip, tmp_path / "hours.ts", 7)
    medium = read_video(path, start=2.0, end=3.0, backend=backend)
    assert frame_number(medium.frames[0]) == pytest.approx(24, abs=1)
    assert medium.timestamps[0] == pytest.approx(2.0, abs=0.09)
    assert "cut off" not in caplog.text


def test_frames_before_zero_are_hidden_by_an_edit_list(tmp_path: Path, caplog):
    clip = write_clip(tmp_path / "clip.mp4", frames=60)
    path = remux(clip, tmp_path / "negative.mp4", shift_s=-1.0)
    medium = read_video(path, start=1.0, num_frames=1)
    assert frame_number(medium.frames[0]) == 24
    assert medium.timestamps == (1.0,)
    assert not caplog.records


def test_a_recording_that_begins_amid_a_group_is_not_cut_off(tmp_path: Path, caplog):
    clip = write_clip(tmp_path / "clip.ts", frames=96, gop=24)
    data = clip.read_bytes()
    (tmp_path / "amid.ts").write_bytes(data[188 * (len(data) // 188 // 3) :])
    medium = read_video(tmp_path / "amid.ts")
    assert frame_number(medium.frames[0]) % 24 == 0
    assert frame_number(medium.frames[-1]) == 95
    assert not caplog.records
