"""Damage within a clip: no frame that a decoder made up is used, and no frame of a whole clip is given up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from illava_cli.errors import MediaError
from illava_cli.media import decord_log, pyav_reader, read_video
from tests.media_files import damage, frame_number, remux, write_clip

BACKENDS = ("auto", "decord", "pyav")
# Groups of 8 frames. The second one's first P-frame, frame 11, is the tenth packet; frames 9 and 10, which
# are shown before it, and those up to frame 15 are made from it.
PACKET, SPOILT = 9, range(9, 16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("whole") / "whole.mp4", frames=48)


@pytest.fixture(scope="module")
def damaged(whole: Path) -> Path:
    return damage(whole, whole.with_name("damaged.mp4"), PACKET)


def at(*numbers: int) -> dict[str, float]:
    """The window that holds the frames from the first of `numbers` to the last."""
    return {"start": numbers[0] / 12, "end": numbers[-1] / 12 + 0.01}


@pytest.mark.parametrize("backend", BACKENDS)
def test_damaged_frames_and_those_made_from_them_are_dropped(
    whole: Path, damaged: Path, caplog: pytest.LogCaptureFixture, backend: str
):
    clean = read_video(whole, backend="pyav").frames
    assert not caplog.records
    medium = read_video(damaged, backend=backend)
    assert list(medium.indices) == [index for index in range(48) if index not in SPOILT]
    for index, frame in zip(medium.indices, medium.frames, strict=True):
        assert np.array_equal(frame, clean[index])
    assert "damaged.mp4: 7 of the 48 frames asked for are damaged" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_good_frames_nearest_in_time_take_the_place_of_damaged_ones(
    damaged: Path, caplog: pytest.LogCaptureFixture, backend: str
):
    medium = read_video(damaged, num_frames=5, backend=backend)
    assert list(medium.indices) == [0, 8, 24, 35, 47]  # of 0, 12, 24, 35, 47 the second moves
    assert [frame_number(frame) for frame in medium.frames] == [0, 8, 24, 35, 47]
    assert "1 of the 5 frames asked for are damaged; the nearest good ones are used (5 in all)" in caplog.text
    caplog.clear()
    assert read_video(damaged, **at(7, 10), backend=backend).indices == (7, 8)
    assert "2 of the 4 frames asked for are damaged; the nearest good ones are used (2 in all)" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_of_damaged_frames_is_refused(damaged: Path, backend: str):
    with pytest.raises(MediaError, match=r"damaged\.mp4: all frames asked for are damaged; get a complete"):
        read_video(damaged, **at(11, 12), backend=backend)


def test_frames_beside_the_damage_come_without_a_word(damaged: Path, caplog: pytest.LogCaptureFixture):
    assert read_video(damaged, **at(16, 30)).indices == tuple(range(16, 31))
    assert read_video(damaged, num_frames=4, **at(0, 7)).indices == (0, 2, 5, 7)
    assert not caplog.records


def test_decord_alone_does_not_show_what_was_made_up(damaged: Path, only_installed):
    only_installed("decord")
    with pytest.raises(MediaError, match=r"cannot be read exactly .*pip install av"):
        read_video(damaged, **at(10, 12))


def test_a_decord_that_cannot_be_heard_is_not_trusted(whole: Path, only_installed, monkeypatch, caplog):
    monkeypatch.setattr(decord_log, "count", lambda: None)
    assert len(read_video(whole, backend="decord").frames) == 48
    assert "does not say when frames are damaged" in caplog.text
    only_installed("decord")
    assert len(read_video(whole).frames) == 48


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
@pytest.mark.parametrize("packet", range(9, 17))
def test_whatever_packet_is_hit_all_pixels_are_right(tmp_path: Path, codec: str, packet: int):
    whole = write_clip(tmp_path / "whole.mp4", codec, frames=32)
    clean = read_video(whole, backend="pyav").frames
    for backend in ("decord", "pyav"):
        medium = read_video(damage(whole, tmp_path / "damaged.mp4", packet), backend=backend)
        assert 16 <= len(medium.frames) < 32
        for index, frame in zip(medium.indices, medium.frames, strict=True):
            assert np.array_equal(frame, clean[index])


def test_damage_is_found_while_the_processor_is_busy(tmp_path: Path):
    """A decoder of several frames at once gave one out before it flagged its damage, once in 150 reads."""
    path = damage(write_clip(tmp_path / "whole.mp4", frames=32), tmp_path / "damaged.mp4", 10)
    with ThreadPoolExecutor(12) as pool:
        lengths = list(pool.map(lambda _: len(read_video(path, backend="pyav").frames), range(300)))
    assert set(lengths) == {26}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_first_frames_that_do_not_decode_are_left_out(tmp_path: Path, codec: str, backend: str):
    whole = write_clip(tmp_path / "whole.mp4", codec, frames=48)
    medium = read_video(damage(whole, tmp_path / "damaged.mp4", 0, 400), backend=backend)
    numbers = [frame_number(frame) for frame in medium.frames]
    assert numbers == list(range(numbers[0], 48))
    assert 6 <= numbers[0] <= 9
    assert medium.timestamps[0] == pytest.approx(numbers[0] / 12)


def test_far_away_damage_is_found_without_decoding_the_whole_clip(tmp_path: Path, monkeypatch):
    from illava_cli.media.decoding import Pass

    whole = write_clip(tmp_path / "whole.mp4", frames=250)
    path = damage(whole, tmp_path / "damaged.mp4", 201)
    decoded, frames = [], Pass.frames

    def counted(self):
        for key, frame in frames(self):
            decoded.append(key)
            yield key, frame

    monkeypatch.setattr(Pass, "frames", counted)
    assert read_video(path, start=203 / 12, num_frames=1, backend="pyav").indices == (208,)
    assert len(decoded) < 150


def test_a_raw_stream_leaves_damage_out(damaged: Path, whole: Path, tmp_path: Path):
    clean = [remux(path, tmp_path / f"{path.stem}.h264") for path in (whole, damaged)]
    good, medium = (read_video(path) for path in clean)
    assert len(good.frames) == 48
    assert len(medium.frames) < 48
    shown = {frame.tobytes() for frame in good.frames}
    assert all(frame.tobytes() in shown for frame in medium.frames)


CLEAN = {
    "open.mp4": ("h264", {"x264-params": "open-gop=1"}),
    "open.ts": ("h264", {"x264-params": "open-gop=1"}),
    "refresh.mp4": ("h264", {"x264-params": "intra-refresh=1:bframes=0"}),
    "refresh.ts": ("h264", {"x264-params": "intra-refresh=1:bframes=0"}),
    "interlaced.mp4": ("h264", {"x264-params": "tff=1"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:open-gop=1"}),
    "mpeg4.avi": ("mpeg4", {}),
    "mpeg4.mp4": ("mpeg4", {}),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9.webm": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "av1.mp4": ("libsvtav1", {}),
}


@pytest.mark.parametrize("name", CLEAN)
def test_whole_clips_lose_nothing_wherever_reading_begins(tmp_path: Path, caplog, name: str):
    """Leading pictures, gradual refreshes and seeks into both make decoders flag frames that are fine."""
    import av

    codec, options = CLEAN[name]
    if codec not in ("h264", "mpeg4") and codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV cannot encode with {codec}")
    path = write_clip(tmp_path / name, codec, frames=96, fps=24, gop=12, options=options)
    every = read_video(path, backend="pyav")
    assert every.indices == tuple(range(96))
    for backend in ("auto", "pyav"):
        for start in (40, 47, 49, 71):
            medium = read_video(path, start=start / 24 + 1e-3, num_frames=3, backend=backend)
            assert medium.frames
            for index, frame in zip(medium.indices, medium.frames, strict=True):
                assert np.abs(frame.astype(int) - every.frames[index]).mean() < 2
    assert not caplog.records


def test_a_frame_whose_colours_nobody_can_convert_is_damage(whole: Path, monkeypatch: pytest.MonkeyPatch):
    """A damaged header may announce any."""
    from av.error import FFmpegError

    def shown(*arguments):
        raise FFmpegError(95, "Operation not supported")

    monkeypatch.setattr(pyav_reader, "shown", shown)
    with pytest.raises(MediaError, match=r"is damaged \(frame 0 cannot be shown: Operation not supported\)"):
        read_video(whole, backend="pyav")
