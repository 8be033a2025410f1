"""Reads frames with PyAV. It identifies each frame by its pts, so every clip it can decode is exact."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from illava_cli.config.options import MAX_MEGAPIXELS
from illava_cli.errors import MediaError
from illava_cli.media.containers import open_container
from illava_cli.media.decoding import Pass
from illava_cli.media.frame_table import FrameTable, first_second, scan
from illava_cli.media.limits import check_pixels
from illava_cli.media.reader import UnreadableFrames
from illava_cli.media.showing import has_alpha, is_mirrored, shown, stretch
from illava_cli.media.sources import Located
from illava_cli.text import one_line

if TYPE_CHECKING:
    import av

# Seeking refills the decoder's pipeline: below this many frames, decoding on is faster.
_SEEK_GAP = 24
# Before it judges a frame, the decoder is given this many groups of pictures: after a seek to where a picture
# builds up gradually, it flags good frames until it has caught up.
_RUN_UP = 2
# FFmpeg's own decoders of these leave transparency out.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_STILL_FORMATS = ("image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "tty")


class PyAVReader:
    """A clip opened with PyAV (see `FrameReader`)."""

    def __init__(self, located: Located, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        """Lists the frames; raises `MediaError` when there is no video in `located`, or a too large one."""
        self._located = located
        self._max_megapixels = max_megapixels
        self._careful = False
        self._seekable = True
        self._checked: set[int] = set()
        self._damage_known = False
        container, stream = self._open()
        with container:
            self._aspect = stretch(stream)
            self.table = scan(container, stream)
        # Without usable pts in the packets, frames are known by their number in decoding output.
        self.exact_pts = self.table is not None
        if self.table is None:
            self.table = self._table_by_decoding()
        self.timestamps = self.table.timestamps

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader.read`. After `damaged` was asked, all that decodes is taken."""
        from av.error import FFmpegError

        if self._damage_known and not self._checked:
            raise UnreadableFrames("there is damage")
        with contextlib.ExitStack() as stack:
            container, stream = self._opened(stack)
            reading = self._pass(container, stream)
            frames, position = reading.frames(), 0
            for index in indices:
                keyframe = self._keyframe_to_seek(position, index)
                if keyframe is not None:
                    reading = self._pass_from(container, stream, keyframe, stack)
                    frames = reading.frames()
                frame = self._advance(frames, index)
                if reading.broken and not self._checked:
                    raise UnreadableFrames(f"there is damage before frame {index}")
                try:
                    pixels = shown(frame, self._aspect)
                except FFmpegError as error:  # damaged headers may announce colours that there are not
                    reason = one_line(error.strerror or error)
                    raise UnreadableFrames(f"frame {index} cannot be shown: {reason}") from None
                yield pixels
                position = index + 1

    def damaged(self, indices: Sequence[int]) -> set[int]:
        """The frames that are damaged, or do not decode, in the groups of pictures of those at `indices`.

        Groups that were looked at before are left out.
        """
        # Decoding several frames at once loses good ones next to a broken one.
        self._careful = True
        keyframes, pts = self.table.keyframes, self.table.pts
        wanted = {bisect.bisect_right(keyframes, pts[index]) - 1 for index in indices} - self._checked
        if wanted and not self._seekable:
            wanted = set(range(-1, max(wanted) + 1)) - self._checked
        self._checked |= wanted
        found: set[int] = set()
        for first, last in _spans(wanted):
            begin = bisect.bisect_left(pts, keyframes[first]) if first >= 0 else 0
            end = bisect.bisect_left(pts, keyframes[last + 1]) if last + 1 < len(keyframes) else len(pts)
            found |= self._damaged_within(begin, end, first)
        return found

    def beyond_decord(self) -> str:
        """Why decord would show these frames wrongly; "" where it would not."""
        container, stream = self._open()
        with container:
            pictures = [s for s in container.streams.video if not _is_cover(s)]
            if len(pictures) > 1:
                return "it has several video streams"
            if self._aspect != 1:
                return "decord does not know the shape of its pixels"
            # The first packet and no more: that one frame is enough, and decoding is what costs.
            packets = itertools.islice(container.demux(stream), 1)
            _, frame = next(self._pass(container, stream, packets).frames(), (None, None))
        if frame is None:
            return "its first frame does not decode"
        if has_alpha(frame):
            return "decord does not know transparency"
        if frame.interlaced_frame or frame.format.components[0].bits > 8:
            return "decord mixes the colours of interlaced and of deep frames in its own way"
        return "decord does not know mirroring" if is_mirrored(frame) else ""

    def _damaged_within(self, begin: int, end: int, group: int) -> set[int]:
        """The indices in [begin, end), which starts with the keyframe numbered `group`, that are damaged."""
        pts = self.table.pts
        limit = pts[end] if end < len(pts) else math.inf
        with contextlib.ExitStack() as stack:
            container, stream = self._opened(stack)
            if self._seekable and group >= _RUN_UP:
                keyframe = self.table.keyframes[group - _RUN_UP]
                checking = self._pass_from(container, stream, keyframe, stack)
            else:
                checking = self._pass(container, stream)
            decoded = set()
            for key, _ in checking.frames():
                if key is not None and key >= limit:
                    break
                decoded.add(key)
        bad = checking.damaged()
        return {index for index in range(begin, end) if pts[index] in bad or pts[index] not in decoded}

    def _open(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        import av
        from av.error import FFmpegError

        av.logging.set_level(None)
        name = self._located.name
        try:
            container = open_container(self._located)
        except (FFmpegError, OSError, ValueError) as error:
            reason = one_line(getattr(error, "strerror", None) or error)
            raise MediaError(
                f"{name}: cannot be read as a video ({reason}); check that it is complete"
            ) from None
        stream = container.streams.best("video")
        if stream is None or _is_cover(stream):
            stream = next((other for other in container.streams.video if not _is_cover(other)), None)
        if stream is None:
            container.close()
            raise MediaError(f"{name}: has no video stream; give a file with pictures")
        if stream.codec_context is None:
            container.close()
            raise MediaError(f"{name}: is in a video format not known here; convert it to H.264")
        if container.format.name in _STILL_FORMATS:
            container.close()
            raise MediaError(f"{name}: is not a video; give a picture with --image")
        check_pixels(name, stream.codec_context.width, stream.codec_context.height, self._max_megapixels)
        if self._careful:
            stream.thread_type = "SLICE"
        else:
            # With several frames at once, a frame may come out before the thread that decodes it has flagged
            # it; an error of the decoder always arrives.
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"err_detect": "explode"}
        return container, stream

    def _opened(self, stack: contextlib.ExitStack) -> tuple[av.container.InputContainer, av.VideoStream]:
        container, stream = self._open()
        stack.enter_context(container)
        return container, stream

    def _pass(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        packets: Iterator[av.Packet] | None = None,
    ) -> Pass:
        """A pass over `packets`, by default all of the stream from where the container stands."""
        packets = container.demux(stream) if packets is None else packets
        return Pass(_decoder(stream), packets, by_number=not self.exact_pts)

    def _pass_from(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        keyframe: int,
        stack: contextlib.ExitStack,
    ) -> Pass:
        """`_pass` from `keyframe` on, or from a bit earlier; from the very start if seeking fails."""
        from av.error import FFmpegError

        try:
            container.seek(keyframe, stream=stream, backward=True)
            packets = container.demux(stream)
            first = next(packets)
        except (FFmpegError, StopIteration):
            first = None
        if (
            first is not None
            and first.is_keyframe
            and first.pts in self.table.keyframes
            and first.pts <= keyframe
        ):
            return self._pass(container, stream, itertools.chain([first], packets))
        # An inexact index (MPEG-TS, very short groups of pictures) can land past the frame. One such seek
        # ends seeking in this clip: decoding from the start is affordable once, not for every frame.
        self._seekable = False
        return self._pass(*self._opened(stack))

    def _keyframe_to_seek(self, position: int, index: int) -> int | None:
        """The keyframe to jump to when the decoder is about to give `position` and `index` is wanted."""
        if not (self._seekable and self.exact_pts) or index - position < _SEEK_GAP:
            return None
        pts = self.table.pts
        place = bisect.bisect_right(self.table.keyframes, pts[index]) - 1 - (_RUN_UP if self._checked else 0)
        if place < 0 or self.table.keyframes[place] < pts[min(position + _SEEK_GAP, index)]:
            return None
        return self.table.keyframes[place]

    def _advance(self, frames: Iterator[tuple[int, av.VideoFrame]], index: int) -> av.VideoFrame:
        wanted = self.table.pts[index]
        for key, frame in frames:
            if key == wanted:
                return frame
            if key is not None and key > wanted:
                break
        raise UnreadableFrames(f"frame {index} of {len(self.table.pts)} does not decode")

    def _table_by_decoding(self) -> FrameTable:
        """Decodes the clip once to count its frames (raw streams, old AVI files)."""
        container, stream = self._open()
        with container:
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            decoding = Pass(_decoder(stream), container.demux(stream), by_number=True)
            times = [frame.time for _, frame in decoding.frames()]
            self._damage_known = bool(decoding.broken)
            if decoding.broken and not self._careful:
                self._careful = True
                return self._table_by_decoding()
            if None in times or any(b <= a for a, b in itertools.pairwise(times)):
                offset, times = 0.0, [number / rate for number in range(len(times))]
            else:
                offset = first_second(container, times[0]) if times else 0.0
        return FrameTable(
            pts=tuple(range(len(times))),
            timestamps=tuple(offset + time - times[0] for time in times),
            keyframes=(),
            cut_off=False,
            plain=False,
        )


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & stream.disposition.attached_pic)


def _decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """The decoder of `stream`; for VP8 and VP9 with transparency a fresh one that does not pass it over."""
    import av

    name = _ALPHA_DECODERS.get(stream.codec_context.codec.name)
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if name in av.codecs_available and tags.get("alpha_mode") == "1":
        return av.CodecContext.create(name, "r")
    return stream.codec_context


def _spans(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """The first and last of each run of consecutive `numbers`, ascending."""
    ordered = sorted(numbers)
    starts = [n for n in ordered if n - 1 not in numbers]
    ends = [n for n in ordered if n + 1 not in numbers]
    yield from zip(starts, ends, strict=True)
