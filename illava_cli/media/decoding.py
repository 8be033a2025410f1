"""One pass of a decoder over packets, with what it found damaged on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av


class Pass:
    """Decodes `packets` (in decoding order, from a keyframe on) and keeps account of damage.

    Frames are known by their pts, or with `by_number` by their running number in the output.
    """

    def __init__(self, decoder: av.VideoCodecContext, packets: Iterator[av.Packet], by_number: bool):
        self._decoder, self._packets, self._by_number = decoder, packets, by_number
        self._order: list[tuple[int | None, bool]] = []  # (frame, is_keyframe) in decoding order
        self.broken: set[int | None] = set()
        """The frames whose packets the decoder refused, and those that it put out flagged as corrupt."""

    def frames(self) -> Iterator[tuple[int | None, av.VideoFrame]]:
        """(pts or number, frame) in display order; packets that do not decode give no frame."""
        from av.error import FFmpegError

        number = 0
        keyframe_seen = False
        while True:
            try:
                packet = next(self._packets, None)
            except FFmpegError:
                packet = None
            if packet is not None and not packet.size:
                packet = None
            if packet is not None:
                keyframe_seen |= packet.is_keyframe
                if not self._by_number:
                    self._order.append((packet.pts, packet.is_keyframe))
            try:
                # After the last packet (or a read error), the frames still inside the decoder come out.
                frames = self._decoder.decode(packet)
            except FFmpegError:
                frames = []
                # What is refused before the first keyframe is the rest of a group that begins elsewhere.
                if keyframe_seen and packet is not None:
                    self.broken.add(number if self._by_number else packet.pts)
            for frame in frames:
                key = number if self._by_number else frame.pts
                if self._by_number:
                    self._order.append((key, bool(frame.key_frame)))
                    number += 1
                if frame.is_corrupt:
                    self.broken.add(key)
                yield key, frame
            if packet is None:
                return

    def damaged(self) -> set[int | None]:
        """The broken frames and those that are made from them.

        Decoders do not flag the latter. Which frames another one leans on is not known here, so from a
        broken frame to the next keyframe none is trusted.
        """
        found: set[int | None] = set()
        tainted, lead = False, -math.inf
        for key, is_keyframe in self._order:
            if is_keyframe:
                # Frames shown before a keyframe but decoded after it lean on the group before it, too.
                lead = key if tainted else lead
                tainted = False
            tainted |= key in self.broken
            if tainted or (key is not None and key < lead):
                found.add(key)
        return found
