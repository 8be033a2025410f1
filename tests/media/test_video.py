"""The right frames come, from every codec, container and back end."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from illava_cli.errors import MediaError, UsageError
from illava_cli.media import frame_indices, read_video
from illava_cli.media.decoding import Pass
from illava_cli.media.decord_reader import DecordReader
from illava_cli.media.pyav_reader import PyAVReader
from illava_cli.media.reader import UnreadableFrames
from illava_cli.media.sources import locate
from tests.media.reading import SIZE, numbers
from tests.media_files import clip_times, frame_number, numbered_frame, remux, write_clip


@pytest.mark.parametrize("clip", ["h264-cfr", "h264-vfr", "mpeg4-cfr", "mpeg4-vfr", "mkv"])
def test_the_right_frames_come(read, clips: dict[str, Path], clip: str):
    times = clip_times(24, vfr=clip.endswith("vfr"))
    for options in (
        {},
        {"num_frames": 5},
        {"fps": 3.0},
        {"start": 0.6, "end": 1.5},
        {"num_frames": 3, "start": 1.0},
    ):
        medium = read(clips[clip], **options)
        expected = frame_indices(times, **options)
        assert list(medium.indices) == numbers(medium) == expected
        # Matroska rounds to milliseconds.
        assert medium.timestamps == pytest.approx([times[index] for index in expected], abs=6e-4)
        assert (medium.width, medium.height) == SIZE
        assert medium.source == str(clips[clip])
        assert medium.kind == "video"


@pytest.mark.parametrize("clip", ["h264-cfr", "h264-vfr", "mpeg4-cfr", "mpeg4-vfr", "mkv", "ts", "avi"])
def test_back_ends_agree_and_show_what_was_encoded(clips: dict[str, Path], clip: str):
    ours, theirs = (read_video(clips[clip], backend=backend) for backend in ("decord", "pyav"))
    assert ours.indices == theirs.indices == tuple(range(24))
    assert ours.timestamps == pytest.approx(theirs.timestamps, abs=1e-3)
    for number, (left, right) in enumerate(zip(ours.frames, theirs.frames, strict=True)):
        assert left.dtype == right.dtype == np.uint8
        assert np.abs(left.astype(int) - right).mean() < 2
        assert np.abs(left.astype(int) - numbered_frame(number, SIZE)).mean() < 12


def test_readers_agree_without_a_fallback(clips: dict[str, Path]):
    """`read_video` may hand a clip over to PyAV, so decord is held against it directly here."""
    for clip in ("h264-cfr", "h264-vfr", "mkv"):
        located = locate(clips[clip])
        pyav = PyAVReader(located)
        decord = DecordReader(located, pyav.table)
        for left, right in zip(decord.read([3, 9, 22]), pyav.read([3, 9, 22]), strict=True):
            assert np.abs(left.astype(int) - right).mean() < 2


@pytest.mark.parametrize("clip", ["mpeg4-cfr", "ts", "avi"])
def test_decord_is_not_trusted_where_its_seeks_go_astray(clips: dict[str, Path], clip: str):
    located = locate(clips[clip])
    with pytest.raises(UnreadableFrames):
        DecordReader(located, PyAVReader(located).table)


def test_falling_back_from_an_explicit_decord_is_said(
    clips: dict[str, Path], caplog: pytest.LogCaptureFixture
):
    assert numbers(read_video(clips["ts"], num_frames=2, backend="decord")) == [0, 23]
    assert "read with PyAV instead of decord" in caplog.text
    caplog.clear()
    read_video(clips["ts"], num_frames=2)
    assert not caplog.records


def test_decord_alone_refuses_what_it_cannot_number(clips: dict[str, Path], only_installed):
    only_installed("decord")
    for clip in ("ts", "avi"):
        with pytest.raises(MediaError, match=r"cannot be read exactly .*pip install av"):
            read_video(clips[clip])


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_sparse_frames_of_a_long_clip(tmp_path: Path, backend: str):
    for codec, suffix in (("h264", "mp4"), ("mpeg4", "mp4"), ("h264", "mkv")):
        path = write_clip(tmp_path / f"{codec}.{suffix}", codec, frames=250, size=(64, 48), gop=20)
        medium = read_video(path, num_frames=6, backend=backend)
        assert numbers(medium) == list(medium.indices) == [0, 50, 100, 149, 199, 249]


@pytest.mark.parametrize("backend", ["decord", "pyav"])
@pytest.mark.parametrize("gop", [1, 2, 3])
def test_keyframes_so_close_that_seeks_land_past_them(tmp_path: Path, backend: str, gop: int):
    path = write_clip(tmp_path / "clip.mp4", frames=250, size=(64, 48), gop=gop)
    assert numbers(read_video(path, num_frames=6, backend=backend)) == [0, 50, 100, 149, 199, 249]


def test_pyav_reads_on_from_the_start_when_a_seek_lands_elsewhere(clips: dict[str, Path], monkeypatch):
    reader = PyAVReader(locate(clips["h264-cfr"]))
    monkeypatch.setattr("illava_cli.media.pyav_reader._SEEK_GAP", 2)
    lying = tuple(pts + 1 for pts in reader.table.keyframes)
    reader.table = dataclasses.replace(reader.table, keyframes=lying)
    assert [frame_number(frame) for frame in reader.read([0, 13, 14, 22])] == [0, 13, 14, 22]
    assert not reader._seekable


def test_pyav_survives_a_container_without_an_index(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", frames=250, size=(64, 48), gop=20)
    medium = read_video(remux(path, tmp_path / "clip.ts"), num_frames=6, backend="pyav")
    assert numbers(medium) == [0, 50, 100, 149, 199, 249]


def test_pyav_seeks_instead_of_decoding_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_clip(tmp_path / "clip.mp4", frames=250, size=(64, 48), gop=20)
    decoded = []
    frames = Pass.frames

    def counted(self):
        for key, frame in frames(self):
            decoded.append(key)
            yield key, frame

    monkeypatch.setattr(Pass, "frames", counted)
    assert numbers(read_video(path, start=20.0, num_frames=2, backend="pyav")) == [240, 249]
    assert len(decoded) < 40


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied_once(read, tmp_path: Path, rotation: int):
    medium = read(write_clip(tmp_path / "clip.mp4", frames=4, rotation=rotation))
    size = SIZE if rotation == 180 else SIZE[::-1]
    assert (medium.width, medium.height) == size
    for number, frame in enumerate(medium.frames):
        assert frame.shape == (size[1], size[0], 3)
        stored = np.rot90(frame, rotation // 90)
        assert frame_number(stored) == number
        assert stored[-5, 5, 0] > 150 > stored[-5, -5, 0]


def test_edit_list_hides_frames_and_time_starts_at_the_first_shown(clips: dict[str, Path], tmp_path: Path):
    path = remux(clips["h264-cfr"], tmp_path / "cut.mp4", shift_s=-4 / 12)
    for backend in ("decord", "pyav"):
        medium = read_video(path, backend=backend)
        assert numbers(medium) == list(range(4, 24))
        assert medium.indices == tuple(range(20))
        assert medium.timestamps[0] == 0
        assert medium.timestamps[-1] == pytest.approx(19 / 12)


def test_decord_alone_refuses_an_edit_list(clips: dict[str, Path], tmp_path: Path, only_installed):
    path = remux(clips["h264-cfr"], tmp_path / "cut.mp4", shift_s=-4 / 12)
    only_installed("decord")
    with pytest.raises(MediaError, match="edit list"):
        read_video(path)


def test_late_first_frame_is_time_zero(clips: dict[str, Path], tmp_path: Path):
    for name in ("late.mkv", "late.mp4", "late.ts"):
        path = remux(clips["h264-cfr"], tmp_path / name, shift_s=3.0)
        for backend in ("decord", "pyav"):
            medium = read_video(path, end=0.3, backend=backend)
            assert numbers(medium) == [0, 1, 2, 3]
            assert medium.timestamps[0] == 0


def test_one_frame(read, tmp_path: Path):
    medium = read(write_clip(tmp_path / "clip.mp4", frames=1), num_frames=8)
    assert numbers(medium) == [0]
    assert medium.timestamps == (0.0,)


def test_bytes_are_read_like_the_file(read, clips: dict[str, Path]):
    data = clips["h264-cfr"].read_bytes()
    medium = read(data, num_frames=4)
    assert numbers(medium) == [0, 8, 15, 23]
    assert medium.source == "<bytes>"


def test_raw_stream_without_timestamps(clips: dict[str, Path], tmp_path: Path):
    raw = remux(clips["ts"], tmp_path / "clip.h264")
    medium = read_video(raw, num_frames=3)
    assert numbers(medium) == [0, 12, 23]
    assert medium.timestamps[0] == 0
    assert medium.timestamps[1] < medium.timestamps[2]


def test_transform_sees_each_frame_once_as_it_comes(read, clips: dict[str, Path]):
    seen = []

    def shrink(frame: np.ndarray, count: int) -> int:
        assert count == 3
        assert frame.shape == (96, 128, 3)
        assert frame.dtype == np.uint8
        seen.append(frame_number(frame))
        return seen[-1] * 10

    medium = read(clips["h264-cfr"], num_frames=3, transform=shrink)
    assert seen == [0, 12, 23]
    assert list(medium.frames) == [0, 120, 230]
    assert (medium.width, medium.height) == SIZE


def test_error_in_the_transform_passes_through(read, clips: dict[str, Path]):
    def broken(frame: np.ndarray, count: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read(clips["h264-cfr"], num_frames=2, transform=broken)


def test_pictures_as_frames():
    stack = np.stack([numbered_frame(number, SIZE) for number in range(9)])
    medium = read_video(stack, num_frames=3)
    assert numbers(medium) == [0, 4, 8] == list(medium.indices)
    assert (medium.width, medium.height, medium.timestamps) == (*SIZE, ())
    listed = read_video(
        [Image.fromarray(frame) for frame in stack],
        transform=lambda frame, count: (frame_number(frame), count),
    )
    assert list(listed.frames) == [(number, 9) for number in range(9)]
    with pytest.raises(MediaError, match="no frames"):
        read_video([])
    with pytest.raises(UsageError, match="no times"):
        read_video(stack, fps=1)
    with pytest.raises(MediaError, match="uint8"):
        read_video(np.zeros((2, 4, 4, 3)))


def test_back_end_choice(clips: dict[str, Path], only_installed):
    with pytest.raises(UsageError, match="choose one of auto, decord, pyav"):
        read_video(clips["h264-cfr"], backend="opencv")
    only_installed("decord")
    with pytest.raises(UsageError, match="pip install av"):
        read_video(clips["h264-cfr"], backend="pyav")
    only_installed("pyav")
    with pytest.raises(UsageError, match="pip install decord"):
        read_video(clips["h264-cfr"], backend="decord")
    assert numbers(read_video(clips["h264-cfr"], num_frames=2)) == [0, 23]
    only_installed()
    with pytest.raises(UsageError, match="no video decoder is installed"):
        read_video(clips["h264-cfr"])


def test_bad_options_are_refused_before_the_file_is_opened(tmp_path: Path):
    with pytest.raises(UsageError, match="both"):
        read_video(tmp_path / "none.mp4", num_frames=2, fps=1)
    with pytest.raises(UsageError, match="not before end"):
        read_video(tmp_path / "none.mp4", start=3, end=2)


def test_a_frame_that_was_read_waits_for_no_collection(clips: dict[str, Path]):
    reader = PyAVReader(locate(clips["h264-cfr"]))
    gc.collect()
    gc.disable()
    try:
        assert len(list(reader.read(range(24)))) == 24
        left = [x for x in gc.get_objects() if isinstance(x, av.VideoFrame) and (x.width, x.height) == SIZE]
    finally:
        gc.enable()
    assert not left
