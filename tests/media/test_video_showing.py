"""Frames come as a player shows them: opaque, in square pixels, upright, from the right stream."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from illava_cli.errors import MediaError
from illava_cli.media import read_video
from tests.media_files import frame_number, numbered_frame, write_clip

BACKENDS = ("auto", "decord", "pyav")
# Stored to shown, by the display matrix (a, b, c, d): stored (x, y) is shown at (ax + cy, bx + dy).
SHOWN = {
    (1, 0, 0, 1): lambda stored: stored,
    (-1, 0, 0, 1): lambda stored: stored[:, ::-1],
    (1, 0, 0, -1): lambda stored: stored[::-1],
    (-1, 0, 0, -1): lambda stored: stored[::-1, ::-1],
    (0, 1, -1, 0): lambda stored: np.rot90(stored, -1),
    (0, -1, 1, 0): lambda stored: np.rot90(stored, 1),
    (0, 1, 1, 0): lambda stored: stored.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
}


def needs(*codecs: str) -> None:
    missing = [codec for codec in codecs if codec not in av.codecs_available]
    if missing:
        pytest.skip(f"this build of PyAV lacks {', '.join(missing)}")


def half_transparent(number: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 4) red, of which the right half is not there."""
    width, height = size
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[:, : width // 2, 3] = 255
    return pixels


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("vp8.webm", "libvpx", "yuva420p"),
        ("vp9.webm", "libvpx-vp9", "yuva420p"),
        ("vp9.mkv", "libvpx-vp9", "yuva420p"),
        ("png.mov", "png", "rgba"),
        ("prores.mov", "prores_ks", "yuva444p10le"),
        ("ffv1.mkv", "ffv1", "bgra"),
    ],
)
def test_transparency_is_composited_onto_white(tmp_path: Path, name, codec, pix_fmt, backend: str):
    needs(codec)
    options = {"auto-alt-ref": "0"} if codec.startswith("libvpx") else {}
    path = write_clip(
        tmp_path / name, codec, frames=30, pix_fmt=pix_fmt, draw=half_transparent, options=options
    )
    medium = read_video(path, num_frames=3, backend=backend)
    assert medium.indices == (0, 14, 29)
    for frame in medium.frames:
        assert frame.shape == (96, 128, 3)
        assert np.abs(frame[:, :60].astype(int) - (255, 0, 0)).max() < 24
        assert np.abs(frame[:, 68:].astype(int) - 255).max() < 24


def test_transparent_clips_can_be_sought(tmp_path: Path):
    needs("libvpx-vp9")
    options = {"auto-alt-ref": "0"}

    def draw(number: int, size: tuple[int, int]) -> np.ndarray:
        return np.dstack([numbered_frame(number, size), half_transparent(number, size)[..., 3]])

    path = write_clip(
        *(tmp_path / "vp9.webm", "libvpx-vp9", 120), pix_fmt="yuva420p", draw=draw, options=options
    )
    medium = read_video(path, num_frames=4, backend="pyav")
    assert [frame_number(frame) & 15 for frame in medium.frames] == [index & 15 for index in medium.indices]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize(("aspect", "wide"), [(Fraction(4, 3), 171), (Fraction(8, 9), 114)])
def test_anamorphic_clips_equal_their_square_twin(tmp_path: Path, aspect, wide, rotation, backend: str):
    path = write_clip(tmp_path / "wide.mp4", frames=6, aspect=aspect, rotation=rotation)
    twin = write_clip(tmp_path / "square.mp4", frames=6, rotation=rotation)
    medium, square = read_video(path, backend=backend), read_video(twin, backend="pyav")
    assert (medium.width, medium.height) == ((wide, 96) if not rotation else (96, wide))
    for frame, like in zip(medium.frames, square.frames, strict=True):
        expected = Image.fromarray(like).resize(frame.shape[1::-1], Image.Resampling.BICUBIC)
        assert frame.shape == (medium.height, medium.width, 3)
        assert np.abs(frame.astype(int) - np.asarray(expected)).mean() < 1


def test_the_twin_in_square_pixels_shows_the_same(tmp_path: Path):
    """A scene that was drawn wide, and one that was squeezed into narrow pixels."""
    wide = read_video(write_clip(tmp_path / "wide.mp4", frames=3, size=(256, 96)), backend="pyav")
    squeezed = read_video(write_clip(tmp_path / "squeezed.mp4", frames=3, aspect=Fraction(2)))
    for ours, theirs in zip(squeezed.frames, wide.frames, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours.astype(int) - theirs).mean() < 6


def test_a_senseless_pixel_shape_is_left_out(tmp_path: Path):
    medium = read_video(write_clip(tmp_path / "clip.mp4", frames=2, aspect=Fraction(100)))
    assert (medium.width, medium.height) == (128, 96)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("matrix", SHOWN)
def test_turned_and_mirrored_clips_are_shown_upright(tmp_path: Path, matrix, backend: str):
    medium = read_video(write_clip(tmp_path / "clip.mp4", frames=3, matrix=matrix), backend=backend)
    for number, frame in enumerate(medium.frames):
        expected = SHOWN[matrix](numbered_frame(number, (128, 96)))
        assert frame.shape == expected.shape == (medium.height, medium.width, 3)
        assert np.abs(frame.astype(int) - expected).mean() < 12


def scheduling() -> int | None:
    """How this thread is scheduled; what it starts inherits that."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_what_decord_has_no_decoder_for_pyav_reads(tmp_path: Path, caplog, suffix: str, backend: str):
    needs("libsvtav1")
    scheduled = scheduling()
    path = write_clip(tmp_path / f"av1.{suffix}", "libsvtav1")
    assert scheduling() == scheduled
    medium = read_video(path, num_frames=4, backend=backend)
    assert list(medium.indices) == [frame_number(frame) for frame in medium.frames] == [0, 8, 15, 23]
    assert ("read with PyAV instead of decord" in caplog.text) == (backend == "decord")


def test_decord_alone_says_what_reads_the_rest(tmp_path: Path, only_installed):
    needs("libsvtav1")
    path = write_clip(tmp_path / "av1.mp4", "libsvtav1")
    only_installed("decord")
    with pytest.raises(MediaError, match=r"no video stream that decord knows.*pip install av"):
        read_video(path)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("h264", "yuv420p10le", {}),
        ("h264", "yuv422p", {}),
        ("h264", "yuv444p", {}),
        ("h264", "yuv420p", {"x264-params": "tff=1"}),
        ("libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
    ],
)
def test_back_ends_agree_on_deep_and_interlaced_frames(tmp_path: Path, codec, pix_fmt, options):
    if codec != "h264":
        needs(codec)
    path = write_clip(tmp_path / "clip.mp4", codec, frames=8, pix_fmt=pix_fmt, options=options)
    ours, theirs = (read_video(path, backend=backend) for backend in ("decord", "pyav"))
    for number, (left, right) in enumerate(zip(ours.frames, theirs.frames, strict=True)):
        assert np.abs(left.astype(int) - right).mean() < 1
        assert np.abs(left.astype(int) - numbered_frame(number, (128, 96))).mean() < 12


def with_more(path: Path, clip: Path, cover_first: bool) -> Path:
    """`clip` with another stream: a cover picture, or a smaller video."""
    with av.open(str(clip)) as given, av.open(str(path), "w") as made:
        source = given.streams.video[0]
        if cover_first:
            cover = made.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 640, 640, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
        copy = made.add_stream_from_template(source)
        if not cover_first:
            cover = made.add_stream("libx264", rate=12)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuv420p"
        for number in range(1 if cover_first else 24):
            frame = av.VideoFrame.from_ndarray(
                np.full((cover.height, cover.width, 3), 90, np.uint8), format="rgb24"
            )
            frame.pts = number
            made.mux(cover.encode(frame))
        made.mux(cover.encode())
        for packet in given.demux(source):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cover_first", [True, False])
def test_a_cover_or_a_second_video_is_not_the_clip(tmp_path, clips, cover_first, backend: str):
    path = with_more(tmp_path / "clip.mp4", clips["h264-cfr"], cover_first)
    medium = read_video(path, num_frames=4, backend=backend)
    assert (medium.width, medium.height) == (128, 96)
    assert [frame_number(frame) for frame in medium.frames] == [0, 8, 15, 23]
