"""Reads the wanted frames of a clip, through whichever decoder does it exactly."""

from __future__ import annotations

import bisect
import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from illava_cli.config.options import MAX_MEGAPIXELS
from illava_cli.errors import MediaError, UsageError
from illava_cli.media.animation import open_animation
from illava_cli.media.decord_reader import DecordReader
from illava_cli.media.image import read_image
from illava_cli.media.pyav_reader import PyAVReader
from illava_cli.media.reader import FrameReader, UnreadableFrames
from illava_cli.media.sampling import check_sampling, frame_indices
from illava_cli.media.sniff import sniff
from illava_cli.media.sources import Located, locate
from illava_cli.media.spool import Spool

Transform = Callable[[np.ndarray, int], Any]  # of a frame, and how many are read
BACKENDS = ("auto", "decord", "pyav")
_MODULES = {"decord": "decord", "pyav": "av"}

logger = logging.getLogger("illava")


@dataclass(frozen=True)
class VideoMedium:
    """The frames read from a clip.

    `frames` holds what the transform returned for each, or (height, width, 3) uint8 RGB; `indices` count
    in the clip's display order, `timestamps` are seconds from the clip's start, as players and `ffmpeg -ss`
    count (none for pictures, which have no times), `width` and `height` are the frame size in square pixels
    after rotation and before the transform.
    """

    source: str
    frames: Spool
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    width: int
    height: int
    kind: str = field(default="video", init=False)


Pictures = np.ndarray | Sequence[Image.Image | np.ndarray]
VideoSource = str | Path | bytes | Located | Pictures | VideoMedium


@dataclass(frozen=True)
class _Sampling:
    """The options of `frame_indices`, carried together."""

    num_frames: int | None
    fps: float | None
    start: float | None
    end: float | None
    max_frames: int | None

    def pick(self, timestamps: Sequence[float]) -> list[int]:
        return frame_indices(
            timestamps,
            num_frames=self.num_frames,
            fps=self.fps,
            start=self.start,
            end=self.end,
            max_frames=self.max_frames,
        )


def read_video(
    source: VideoSource,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    max_frames: int | None = None,
    backend: str = "auto",
    transform: Transform | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> VideoMedium:
    """Reads the frames that `frame_indices` picks from a clip: `num_frames`, `fps`, `start`, `end` and
    `max_frames`.

    `source` is a path, URL, `-` (stdin), the file's bytes, or the frames themselves: (T, H, W, 3) uint8, a
    list of pictures, or `data:video/jpeg;base64,` and JPEGs with commas between, which have no times; what
    was read before is returned as it is. `backend` is auto, decord or pyav; where decord would give wrong
    frames PyAV takes over. `transform` is applied to each (H, W, 3) uint8 frame, with the number of frames,
    as soon as it is decoded. What it returns need not all fit into memory. Animated pictures (GIF, WebP,
    APNG, AVIF) are clips too. Frames of more than `max_megapixels` million pixels are refused.

    A clip that is cut off or damaged is used as far as it decodes, with a warning: the good frames nearest in
    time take the place of damaged ones, or fewer come where there are none. Raises `MediaError`
    for a clip that is missing, no video, without frames or without a frame in the window, `UsageError`
    for contradictory options or a backend that is not installed.
    """
    if isinstance(source, VideoMedium):
        return source
    check_sampling(num_frames, fps, start, end)
    if backend not in BACKENDS:
        raise UsageError(f"backend is '{backend}'; choose one of {', '.join(BACKENDS)}")
    sampling = _Sampling(num_frames, fps, start, end, max_frames)
    transform = transform or (lambda frame, count: frame)
    if isinstance(source, np.ndarray | list | tuple | Spool):
        return _from_pictures(source, sampling, transform, max_megapixels)

    use_decord = _chosen(backend) == "decord"
    located = locate(source)
    if located.pictures:
        frames = [Located(located.name, data=data) for data in located.pictures]
        return _from_pictures(frames, sampling, transform, max_megapixels, located.name)
    animation = open_animation(located, max_megapixels)
    if animation is not None:
        return _read(animation, located, sampling, transform)
    _require_video(located)
    pyav = PyAVReader(located, max_megapixels) if backend == "pyav" or _installed("pyav") else None
    if pyav is not None:
        if not pyav.timestamps:
            raise _no_frames(located)
        if pyav.table.cut_off:
            logger.warning(
                "%s: is cut off; using the %.1f s that are there", located.name, pyav.timestamps[-1]
            )
    if use_decord:
        try:
            return _read(_decord(located, pyav), located, sampling, transform)
        except UnreadableFrames as error:
            if pyav is None:
                raise MediaError(
                    f"{located.name}: cannot be read exactly ({error}); install PyAV for it: pip install av"
                ) from None
            level = logging.WARNING if backend == "decord" else logging.DEBUG
            logger.log(level, "%s: read with PyAV instead of decord (%s)", located.name, error)
    try:
        return _read(pyav, located, sampling, transform)
    except UnreadableFrames:
        return _salvage(pyav, located, sampling, transform)


def _decord(located: Located, pyav: PyAVReader | None) -> DecordReader:
    if pyav is not None and (reason := pyav.beyond_decord()):
        raise UnreadableFrames(reason)
    return DecordReader(located, pyav.table if pyav and pyav.exact_pts else None)


def _read(reader: FrameReader, located: Located, sampling: _Sampling, transform: Transform) -> VideoMedium:
    """The frames that are asked for."""
    return _frames(reader, located, _asked(reader, located, sampling), transform)


def _asked(reader: FrameReader, located: Located, sampling: _Sampling) -> list[int]:
    try:
        return sampling.pick(reader.timestamps)
    except MediaError as error:
        raise MediaError(f"{located.name}: {error}") from None


def _frames(
    reader: FrameReader, located: Located, indices: Sequence[int], transform: Transform
) -> VideoMedium:
    timestamps = tuple(reader.timestamps[index] for index in indices)
    return _medium(located.name, reader.read(indices), indices, timestamps, transform)


def _medium(
    name: str,
    frames: Iterable[np.ndarray],
    indices: Sequence[int],
    timestamps: tuple[float, ...],
    transform: Transform,
) -> VideoMedium:
    """Frames as they come, each through `transform`."""
    height = width = 0

    def transformed() -> Iterator[Any]:
        nonlocal height, width
        for pixels in frames:
            height, width = pixels.shape[:2]
            yield transform(pixels, len(indices))

    spool = Spool.of(transformed())
    return VideoMedium(name, spool, tuple(indices), timestamps, width, height)


def _salvage(reader: PyAVReader, located: Located, sampling: _Sampling, transform: Transform) -> VideoMedium:
    """Reads the frames that are asked for, and in the place of each damaged one the nearest good one.

    None is read twice, so fewer may come.
    """
    asked = picked = _asked(reader, located, sampling)
    window = _asked(reader, located, replace(sampling, num_frames=None, fps=None, max_frames=None))
    damaged: set[int] = set()
    while found := reader.damaged(picked):
        damaged |= found
        good = [index for index in window if index not in damaged]
        if not good:
            raise MediaError(f"{located.name}: all frames asked for are damaged; get a complete copy")
        picked = sorted({_nearest(good, index, reader.timestamps) for index in asked})
    if lost := len(damaged.intersection(asked)):
        logger.warning(
            "%s: %d of the %d frames asked for are damaged; the nearest good ones are used (%d in all)",
            located.name,
            lost,
            len(asked),
            len(picked),
        )
    try:
        return _frames(reader, located, picked, transform)
    except UnreadableFrames as error:
        raise MediaError(f"{located.name}: is damaged ({error}); get a complete copy") from None


def _nearest(good: Sequence[int], index: int, times: Sequence[float]) -> int:
    """Which of the frames `good` (ascending) is shown nearest in time to the one at `index`."""
    place = bisect.bisect_left(good, index)
    return min(good[max(place - 1, 0) : place + 1], key=lambda other: abs(times[other] - times[index]))


def _from_pictures(
    pictures: Pictures | Sequence[Located],
    sampling: _Sampling,
    transform: Transform,
    max_megapixels: float,
    name: str = "<frames>",
) -> VideoMedium:
    if sampling.fps is not None or sampling.start is not None or sampling.end is not None:
        raise UsageError("frames given as pictures have no times; use num_frames, or give the clip as a file")
    if not len(pictures):
        raise MediaError(f"{name}: holds no frames; give at least one")
    indices = sampling.pick(range(len(pictures)))
    read = (read_image(pictures[index], max_megapixels=max_megapixels).image for index in indices)
    return _medium(name, map(np.asarray, read), indices, (), transform)


def _installed(backend: str) -> bool:
    try:
        importlib.import_module(_MODULES[backend])
    except (ImportError, OSError, RuntimeError):
        # decord raises OSError or RuntimeError when its shared library does not load.
        return False
    return True


def _chosen(backend: str) -> str:
    if backend == "auto":
        if not (_installed("decord") or _installed("pyav")):
            raise UsageError("no video decoder is installed; run: pip install decord (or: pip install av)")
        return "decord" if _installed("decord") else "pyav"
    if not _installed(backend):
        raise UsageError(f"backend {backend} is not installed; run: pip install {_MODULES[backend]}")
    return backend


def _require_video(located: Located) -> None:
    kind, description = sniff(located.head())
    if kind == "image":
        raise MediaError(f"{located.name}: is {description}, not a video; give it with --image")
    if kind == "audio":
        raise MediaError(
            f"{located.name}: is {description} and has no video stream; give a file with pictures"
        )
    if kind == "other":
        raise MediaError(
            f"{located.name}: looks like {description}, not a video; give an MP4, WebM, ... file"
        )


def _no_frames(located: Located) -> MediaError:
    return MediaError(f"{located.name}: holds no frame that decodes; get a complete copy")
