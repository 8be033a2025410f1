"""Makes small real pictures and clips for the tests; each frame of a clip carries its own number."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

_ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4"}
_TICKS = 600  # per second, divisible by the usual frame rates
# tkhd matrices (a, b, c, d) by clockwise degrees.
_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def quadrants(size: tuple[int, int]) -> Image.Image:
    """An upright picture of `size` (width, height) whose corners are red, green, blue and white."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return Image.fromarray(pixels)


def write_jpeg(path: str | Path, size: tuple[int, int] = (64, 48), orientation: int | None = None) -> Path:
    """Writes `quadrants(size)`, stored as is; `orientation` is the EXIF tag 1..8 that viewers apply."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    quadrants(size).save(path, "JPEG", quality=95, subsampling=0, exif=exif)
    return Path(path)


def numbered_frame(number: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: `number` (0..255) as eight bars in the top half, red at the bottom left."""
    width, height = size
    pixels = np.full((height, width, 3), 40, np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            pixels[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 220
    pixels[height // 2 :, : width // 2, 0] = 200
    return pixels


def frame_number(pixels: np.ndarray) -> int:
    """The number that `numbered_frame` wrote into an upright frame."""
    height, width = pixels.shape[:2]
    return sum(int(pixels[height // 4, (2 * bit + 1) * width // 16].mean() > 128) << bit for bit in range(8))


def clip_times(frames: int, fps: int = 12, vfr: bool = False) -> list[float]:
    """The timestamps in seconds of the frames that `write_clip` writes."""
    times, now = [], 0
    for number in range(frames):
        times.append(now / _TICKS)
        now += _TICKS // fps * (3 if vfr and number % 5 == 4 else 1)
    return times


@contextmanager
def as_scheduled() -> Iterator[None]:
    """This thread is scheduled afterwards as it was before.

    SVT-AV1 makes a thread of root's that opens it a real-time one, and with it all that it starts later: a
    browser that is busy then leaves nothing else a processor.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


@as_scheduled()
def write_clip(
    path: str | Path,
    codec: str = "h264",
    frames: int = 24,
    fps: int = 12,
    size: tuple[int, int] = (128, 96),
    vfr: bool = False,
    rotation: int = 0,
    audio_only: bool = False,
    gop: int = 8,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    aspect: Fraction | None = None,
    matrix: tuple[int, int, int, int] | None = None,
    sound: bool = False,
    late_s: float = 0.0,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = numbered_frame,
) -> Path:
    """Writes a clip with B-frames into the container that the suffix of `path` names.

    `codec` is h264, mpeg4 (whose keyframes are preceded by B-frames of their group), or an encoder of FFmpeg
    with its `options`. `vfr` shows every fifth frame three times as long. Players turn the picture by
    `rotation`, a clockwise angle (0, 90, 180, 270); `matrix` (a, b, c, d) sets all of the display matrix
    instead (MP4 only). `aspect` is a pixel's width over its height. `audio_only` writes two seconds of
    silence instead of pictures, `sound` beside them; the pictures begin `late_s` later. `draw` gives (H, W,
    3) RGB or (H, W, 4) RGBA for a frame's number.
    """
    movflags = {"movflags": "faststart"} if Path(path).suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=movflags) as container:
        silence = container.add_stream("aac", rate=16000, layout="mono") if audio_only or sound else None
        if not audio_only:
            stream = container.add_stream(_ENCODERS.get(codec, codec), rate=fps, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt, stream.gop_size = pix_fmt, gop
            if codec in _ENCODERS:
                stream.codec_context.max_b_frames = 2
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            if pix_fmt.startswith("yuva") and codec.startswith("libvpx"):
                stream.metadata["alpha_mode"] = "1"
            # Two threads make x264 start fast and still give the same stream every time.
            stream.codec_context.thread_count = 2
            stream.codec_context.time_base = Fraction(1, _TICKS)
        if silence is not None:
            _write_silence(container, silence)
        for number, time in enumerate([] if audio_only else clip_times(frames, fps, vfr)):
            pixels = draw(number, size)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[2] == 4 else "rgb24")
            frame.pts, frame.time_base = round((time + late_s) * _TICKS), Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        if not audio_only:
            container.mux(stream.encode())
    if rotation or matrix:
        _set_matrix(Path(path), matrix or _MATRICES[rotation])
    return Path(path)


def remux(source: str | Path, target: str | Path, shift_s: float = 0.0) -> Path:
    """Copies the packets of a clip into the container that `target` names, `shift_s` later.

    In an MP4, frames shifted before 0 are hidden by an edit list, as after a cut without re-encoding.
    """
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        shift = round(shift_s / stream.time_base)
        for packet in given.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copy
                made.mux(packet)
    return Path(target)


def cut_off(source: str | Path, target: str | Path, keep: float) -> Path:
    """Writes the first part `keep` (0..1) of the bytes of `source`, as a broken download leaves them."""
    data = Path(source).read_bytes()
    Path(target).write_bytes(data[: int(len(data) * keep)])
    return Path(target)


def damage(source: str | Path, target: str | Path, packet: int, count: int = 100) -> Path:
    """Copies a clip with the last `count` bytes, at most half, of its `packet`-th packet zeroed."""
    with av.open(str(source)) as container:
        packets = [found for found in container.demux(video=0) if found.size]
    data = bytearray(Path(source).read_bytes())
    count = min(count, packets[packet].size // 2)
    end = packets[packet].pos + packets[packet].size
    data[end - count : end] = bytes(count)
    Path(target).write_bytes(data)
    return Path(target)


def _write_silence(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    samples = np.zeros((1, 1024), np.float32)
    for number in range(32):
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, number * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _set_matrix(path: Path, values: tuple[int, int, int, int]) -> None:
    """Patches the display matrix in the track header: PyAV does not write one."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + 4 + (32 if data[header] else 20) + 16
    a, b, c, d = (value << 16 for value in values)
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
