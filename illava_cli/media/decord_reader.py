"""Reads frames with decord, kept to what it does exactly.

decord 0.6 numbers packets instead of shown frames, and its seeking and skipping go astray at keyframes
that other frames of their group are shown before (open groups of pictures), in MPEG-TS and in AVI. It
does apply the rotation of the display matrix by itself, but not its mirroring, and knows neither
transparency nor the shape of pixels. Its FFmpeg is of 2021: newer formats (AV1) it does not know.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from illava_cli.media import decord_log
from illava_cli.media.deadline import changed
from illava_cli.media.frame_table import FrameTable
from illava_cli.media.reader import UnreadableFrames
from illava_cli.media.sniff import sniff
from illava_cli.media.sources import Located
from illava_cli.text import one_line

# decord keeps 32-bit floats; half a frame at 240 frames per second is 2 ms.
_SAME_TIME_S = 2e-3


class DecordReader:
    """A clip opened with decord (see `FrameReader`)."""

    def __init__(self, located: Located, table: FrameTable | None = None) -> None:
        """Opens the clip; `table` (PyAV's list of the frames) allows seeking and is checked against.

        Raises `UnreadableFrames` when decord cannot open the clip or would number its frames wrongly.
        """
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._errors = decord_log.count()
        if self._errors is None and table is not None:
            raise UnreadableFrames("this build of decord does not say when frames are damaged")
        kind, description = sniff(located.head())
        if kind not in ("mp4", "matroska"):
            raise UnreadableFrames(
                f"decord is exact only for MP4 and Matroska, not for {description or 'this'}"
            )
        if table is not None and not table.plain:
            raise UnreadableFrames(
                "its frames are not its packets in order: open groups of pictures, an edit list, or a cut"
            )
        try:
            # The tiniest tolerance makes decord raise instead of repeating a neighbour of a broken frame.
            with _silenced():
                self._clip = decord.VideoReader(
                    str(located.path) if located.path else io.BytesIO(located.data), fault_tol=1e-6
                )
            times = self._clip.get_frame_timestamp(range(len(self._clip)))[:, 0].astype(np.float64)
            self._keyframes = self._clip.get_key_indices()
        except Exception as error:
            if "cannot find video stream" in str(error):
                # A stream that it has no decoder for is none to decord: no verdict on the file.
                raise UnreadableFrames("it has no video stream that decord knows") from None
            raise UnreadableFrames(_reason(error)) from None
        if times[0] < -_SAME_TIME_S or (np.diff(times) <= 0).any():
            raise UnreadableFrames("it hides frames with an edit list or has no timestamps")
        times -= times[0]
        if table is not None:
            expected = np.subtract(table.timestamps, table.timestamps[0])
            if len(times) != len(expected) or not np.allclose(times, expected, atol=_SAME_TIME_S):
                raise UnreadableFrames("decord and PyAV disagree on its frames")
        self._can_seek = table is not None
        self.timestamps = table.timestamps if table is not None else tuple(times.tolist())

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader.read`."""
        position = 0
        for index in indices:
            try:
                with _silenced():
                    if self._can_seek:
                        self._clip.seek_accurate(index)
                    else:
                        self._step(position, index)
                    pixels = self._clip.next().asnumpy()
            except Exception as error:
                raise UnreadableFrames(_reason(error)) from None
            if pixels.shape[2] != 3:
                # At some widths up to 72 decord takes the padding of a row for more channels.
                raise UnreadableFrames("decord pads the rows of frames this narrow")
            if self._errors != decord_log.count():
                raise UnreadableFrames("it is damaged")
            yield pixels
            position = index + 1

    def _step(self, position: int, index: int) -> None:
        """Decodes from `position` up to `index` without seeking.

        `skip_frames` seeks when it would cross a keyframe, so each of those is crossed by `next`.
        """
        for keyframe in (*(key for key in self._keyframes if position < key <= index), None):
            target = index if keyframe is None else keyframe - 1
            if target > position:
                self._clip.skip_frames(target - position)
                position = target
            if keyframe is not None:
                self._clip.next()
                position += 1


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keeps decord's C++ log lines off stderr; `decord.logging` only reaches FFmpeg's."""
    kept: list[int] = []

    def silence() -> None:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:  # it may be closed
            kept.append(os.dup(2))
            os.dup2(nowhere.fileno(), 2)

    def speak() -> None:
        for stderr in kept:
            os.dup2(stderr, 2)
            os.close(stderr)

    # whoever gives this clip up says so on stderr
    with changed(silence, speak):
        yield


def _reason(error: Exception) -> str:
    """The first line of decord's multi-line message, without the place in its source."""
    text = one_line(str(error).strip().split("\n")[0])
    text = re.sub(r"\[[\d:]+\] |\S+\.cc:\d+: |Check failed: ", "", text)
    return f"decord says: {text.rstrip('.') or type(error).__name__}"
