"""Reads frames with PyAV. It identifies each frame by its pts, so every clip it can decode is exact."""

from __future__ import annotations

import bisect
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from illava_cli.errors import MediaError
from illava_cli.media.frame_table import FrameTable, scan
from illava_cli.media.limits import checkpoint
from illava_cli.media.reader import UnreadableFrames, no_video_stream
from illava_cli.media.sources import Located, one_line

if TYPE_CHECKING:
    import av

# Seeking refills the decoder's pipeline: below this many frames, decoding on is faster.
_SEEK_GAP = 24
_STILL_FORMATS = ("image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "tty")


class PyAVReader:
    """A clip opened with PyAV (see `FrameReader`)."""

    def __init__(self, located: Located) -> None:
        """Lists the frames; raises `MediaError` when there is no video in `located`."""
        self._located = located
        self._careful = False
        self._seekable = True
        container, stream = self._open()
        with container:
            self.table = scan(container, stream)
        # Without usable pts in the packets, frames are known by their number in decoding output.
        self.exact_pts = self.table is not None
        if self.table is None:
            self.table = self._table_by_decoding()
        self.timestamps = self.table.timestamps

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader.read`."""
        container, stream = self._open()
        with container:
            frames = self._frames(container, stream)
            position = 0
            for index in indices:
                keyframe = self._keyframe_to_seek(position, index)
                if keyframe is not None:
                    frames = self._frames_from(container, stream, keyframe)
                yield _upright(self._advance(frames, index))
                position = index + 1

    def decodable(self) -> list[int]:
        """See `FrameReader.decodable`."""
        # What decodes in one go need not decode after a seek into a damaged file, and decoding several
        # frames at once loses good ones next to a broken one.
        self._careful = True
        numbers = {pts: index for index, pts in enumerate(self.table.pts)}
        container, stream = self._open()
        with container:
            return sorted({numbers[key] for key, _ in self._frames(container, stream) if key in numbers})

    def _open(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        import av
        from av.error import FFmpegError

        av.logging.set_level(None)
        name = self._located.name
        try:
            container = av.open(
                str(self._located.path) if self._located.path else io.BytesIO(self._located.data),
                metadata_errors="ignore",
            )
        except (FFmpegError, OSError, ValueError) as error:
            reason = one_line(getattr(error, "strerror", None) or error)
            raise MediaError(
                f"{name}: cannot be read as a video ({reason}); check that it is complete"
            ) from None
        stream = container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            container.close()
            raise no_video_stream(self._located)
        if stream.codec_context is None:
            container.close()
            raise MediaError(f"{name}: is in a video format not known here; convert it to H.264")
        if container.format.name in _STILL_FORMATS:
            container.close()
            raise MediaError(f"{name}: is not a video; give a picture with --image")
        stream.thread_type = "SLICE" if self._careful else "AUTO"
        return container, stream

    def _frames(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        packets: Iterator[av.Packet] | None = None,
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """(key, frame) in display order; the key is the pts, or the running number without `exact_pts`.

        Packets that do not decode are passed over: a frame missing from the output shows that.
        """
        from av.error import FFmpegError

        packets = container.demux(stream) if packets is None else packets
        number = itertools.count()
        while True:
            checkpoint()
            try:
                packet = next(packets, None)
            except FFmpegError:
                packet = None
            try:
                # After the last packet (or a read error), the frames still inside the decoder come out.
                frames = stream.codec_context.decode(packet if packet is not None and packet.size else None)
            except FFmpegError:
                frames = []
            for frame in frames:
                yield (frame.pts if self.exact_pts else next(number)), frame
            if packet is None or not packet.size:
                return

    def _frames_from(
        self, container: av.container.InputContainer, stream: av.VideoStream, keyframe: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """`_frames` from `keyframe` on, or from a bit earlier; from the very start if seeking fails."""
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
            yield from self._frames(container, stream, itertools.chain([first], packets))
            return
        # An inexact index (MPEG-TS, very short groups of pictures) can land past the frame. One such seek
        # ends seeking in this clip: decoding from the start is affordable once, not for every frame.
        self._seekable = False
        fresh_container, fresh_stream = self._open()
        with fresh_container:
            yield from self._frames(fresh_container, fresh_stream)

    def _keyframe_to_seek(self, position: int, index: int) -> int | None:
        """The keyframe to jump to when the decoder is about to give `position` and `index` is wanted."""
        if self._careful or not (self._seekable and self.exact_pts) or index - position < _SEEK_GAP:
            return None
        pts = self.table.pts
        place = bisect.bisect_right(self.table.keyframes, pts[index]) - 1
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
            times = [frame.time for _, frame in self._frames(container, stream)]
        if None in times or any(b <= a for a, b in itertools.pairwise(times)):
            times = [number / rate for number in range(len(times))]
        return FrameTable(
            pts=tuple(range(len(times))),
            timestamps=tuple(time - times[0] for time in times),
            keyframes=(),
            cut_off=False,
            plain=False,
        )


def _upright(frame: av.VideoFrame) -> np.ndarray:
    # POINT repeats chroma samples as the plain 8-bit conversion does; any smoothing would make deeper
    # formats differ from decord's pixels.
    pixels = frame.reformat(format="rgb24", interpolation="POINT").to_ndarray()
    # PyAV leaves the display matrix to the caller; its angle is counterclockwise, as numpy's.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
