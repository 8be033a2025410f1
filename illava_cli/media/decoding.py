"""One pass of a decoder over packets, with what it found damaged on the way."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from illava_cli.media.deadline import checkpoint

if TYPE_CHECKING:
    import av

# No format lets a frame be shown after more than this many that are decoded later.
_MOST_HELD = 16


def is_shown(packet: av.Packet, codec: str) -> bool:
    """True when `packet` of `codec` becomes a frame that is shown: no edit list hides it, and it is none of
    those that VP8 makes only for others to lean on."""
    return not (packet.is_discard or (codec in ("vp8", "libvpx") and not memoryview(packet)[0] >> 4 & 1))


class Pass:
    """Decodes `packets` (in decoding order, from a keyframe on) and keeps account of damage.

    Frames are known by their pts, or with `by_number` by their running number in the output.
    """

    def __init__(self, decoder: av.VideoCodecContext, packets: Iterator[av.Packet], by_number: bool):
        self._decoder, self._packets, self._by_number = decoder, packets, by_number
        self._order: list[tuple[int, bool]] = []  # (frame, is_keyframe) in decoding order
        self._leans_until: dict[int | None, float] = {}  # the last shown of the frames decoded up to each
        self._given: set[int | None] = set()  # what has come out, or is not to
        self._late: set[int] = set()  # what came out after frames that are shown later
        self.broken: set[int | None] = set()
        """The frames whose packets are incomplete or refused by the decoder, and those that it flagged."""

    def frames(self) -> Iterator[tuple[int | None, av.VideoFrame]]:
        """(pts or number, frame) in display order; packets that do not decode give no frame.

        Each is held back until all frames decoded before it are out: a flag on one of those concerns it.
        """
        held: collections.deque[tuple[int | None, av.VideoFrame]] = collections.deque()
        latest = -math.inf
        for key, frame in self._decoded():
            if key is not None:
                if key < latest:
                    self._late.add(key)
                latest = max(latest, key)
            held.append((key, frame))
            while held and (len(held) > _MOST_HELD or self._leans_until.get(held[0][0], -math.inf) <= latest):
                yield held.popleft()
        yield from held

    def _decoded(self) -> Iterator[tuple[int | None, av.VideoFrame]]:
        from av.error import FFmpegError

        number, newest = 0, -math.inf
        keyframe_seen = False
        codec = self._decoder.codec.name
        while True:
            checkpoint()
            try:
                packet = next(self._packets, None)
            except FFmpegError:
                packet = None
            if packet is not None and not packet.size:
                packet = None
            if packet is not None:
                keyframe_seen |= packet.is_keyframe
                if not self._by_number and packet.pts is not None:
                    self._order.append((packet.pts, packet.is_keyframe))
                    newest = max(newest, packet.pts)
                    self._leans_until[packet.pts] = newest
                    if not is_shown(packet, codec):
                        self._given.add(packet.pts)
            try:
                # After the last packet (or a read error), the frames still inside the decoder come out.
                frames = self._decoder.decode(packet)
                refused = False
            except MemoryError:  # is one of FFmpeg's, too, and no damage
                raise
            except FFmpegError:
                frames, refused = [], True
            # What is refused before the first keyframe is the rest of a group that begins elsewhere.
            if packet is not None and keyframe_seen and (refused or packet.is_corrupt):
                self.broken.add(number if self._by_number else packet.pts)
            for frame in frames:
                key = number if self._by_number else frame.pts
                if self._by_number:
                    self._order.append((key, bool(frame.key_frame)))
                    number += 1
                if frame.is_corrupt:
                    self.broken.add(key)
                self._given.add(key)
                yield key, frame
            if packet is None:
                return

    def damaged(self) -> set[int]:
        """The broken frames, those that did not come out, and those that are made from such ones.

        Decoders do not flag the latter. Which frames another one leans on is not known here, so from a
        broken frame to the next keyframe none is trusted.
        """
        found: set[int] = set()
        tainted, lead = False, -math.inf
        reached = max((key for key in self._given if key is not None), default=-math.inf)
        if self._by_number:
            return self._damaged_by_number()
        for key, is_keyframe in self._order:
            if is_keyframe:
                # Frames shown before a keyframe but decoded after it lean on the group before it, too.
                lead = key if tainted else lead
                tainted = False
            tainted |= key in self.broken or (key < reached and key not in self._given)
            if tainted or key < lead or key in self._late:
                found.add(key)
        return found

    def _damaged_by_number(self) -> set[int]:
        """`damaged` where the order of decoding is not known: all of a group, but for a good keyframe."""
        found: set[int] = set()
        group: list[int] = []
        for key, is_keyframe in (*self._order, (-1, True)):
            if is_keyframe:
                if not self.broken.isdisjoint(group):
                    found.update(group if group[0] in self.broken else group[1:])
                group = []
            group.append(key)
        return found
