"""Lists a clip's frames from its packets, without decoding: when each is shown and where seeking is safe."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from illava_cli.media.deadline import checkpoint
from illava_cli.media.decoding import is_shown

if TYPE_CHECKING:
    import av

# A container's duration is rounded and may count a last frame's display time in its own way.
_CUT_OFF_S = 0.5
_ROUNDED_S = 2e-6


@dataclass(frozen=True)
class FrameTable:
    """The frames of one video stream in display order.

    `pts` are in the stream's ticks, `timestamps` in seconds from the start of the clip (`first_second`).
    `keyframes` are the pts at which decoding can start. `cut_off` says that the file ends before its
    declared end. `plain` says that packets and shown frames are one and the same and that every group of
    pictures can be decoded alone: only then do decord's frame numbers and seeks hit the right frames.
    """

    pts: tuple[int, ...]
    timestamps: tuple[float, ...]
    keyframes: tuple[int, ...]
    cut_off: bool
    plain: bool


def scan(container: av.container.InputContainer, stream: av.VideoStream) -> FrameTable | None:
    """The table of `stream`, or None when its packets do not say when they are shown."""
    from av.error import FFmpegError

    # (pts, dts, duration, is_keyframe) in decoding order. What is not shown is not listed, as decoders
    # swallow it.
    packets: list[tuple[int, int | None, int, bool]] = []
    hidden = cut_off = partial = gradual = False
    codec = stream.codec_context.codec.name
    try:
        for packet in container.demux(stream):
            checkpoint()
            if not packet.size:
                continue
            if packet.pts is None:
                return None
            partial = packet.is_corrupt
            if not is_shown(packet, codec):
                hidden = True
            else:
                gradual |= packet.is_keyframe and _builds_up(packet, codec)
                packets.append((packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
    except FFmpegError:
        cut_off = True
    if partial:
        # What comes incomplete and is not the last is no cut, but damage, and told by decoding.
        cut_off = True
        packets = packets[:-1]

    keyframes = [(pts, dts, position) for position, (pts, dts, _, is_key) in enumerate(packets) if is_key]
    shown = [packet for packet in packets if hidden or not keyframes or packet[0] >= keyframes[0][0]]
    pts = sorted(packet[0] for packet in shown)
    if len(set(pts)) != len(pts):
        return None
    # decord reserves memory for as many frames as are declared, and aborts the process where it cannot
    counted = stream.frames in (0, len(packets))
    ticks, offset = float(stream.time_base), 0.0
    if pts:
        offset = first_second(container, pts[0] * ticks)
        # A recording may begin amid a group of pictures, whose rest counts for its length.
        first, end = min(packet[0] for packet in packets), max(packet[0] + packet[2] for packet in packets)
        cut_off |= _ends_early(container, stream, first * ticks, end * ticks)
    return FrameTable(
        pts=tuple(pts),
        timestamps=tuple(offset + (value - pts[0]) * ticks for value in pts),
        keyframes=tuple(sorted(pts for pts, _, _ in keyframes)),
        cut_off=bool(cut_off),
        plain=counted
        and not hidden
        and not cut_off
        and not gradual
        and len(shown) == len(packets)
        and _closed(pts, keyframes),
    )


def first_second(container: av.container.InputContainer, first: float) -> float:
    """When the frame at `first`, in the container's seconds, is shown, counted as players do.

    They count from where the container's first stream starts: with its sound where pictures come later.
    """
    if container.start_time is None:
        return 0.0
    since = first - container.start_time / 1_000_000
    # the container's is rounded to microseconds
    return since if since > _ROUNDED_S else 0.0


def _closed(pts: Sequence[int], keyframes: Sequence[tuple[int, int | None, int]]) -> bool:
    """True when each keyframe comes at the same place in decoding and display order, and decord's seek,
    which mixes up pts and dts, cannot land on the keyframe after the one it looks for."""
    in_place = all(pts[position] == key for key, _, position in keyframes)
    pairs = itertools.pairwise(keyframes)
    return in_place and all(after[1] is None or after[1] > before[0] for before, after in pairs)


def _builds_up(packet: av.Packet, codec: str) -> bool:
    """True for a point of H.264 in an MP4 or Matroska that decoding can start at, but from which pictures
    only get complete over time: it holds parts of pictures, and none that refreshes them all (IDR)."""
    data, place, kinds = memoryview(packet), 0, set()
    while codec == "h264" and place + 4 < len(data):
        kinds.add(data[place + 4] & 31)
        place += 4 + int.from_bytes(data[place : place + 4], "big")
    return 1 in kinds and 5 not in kinds


def _ends_early(
    container: av.container.InputContainer, stream: av.VideoStream, first: float, end: float
) -> bool:
    """True when the frames, from `first` to `end` in seconds, end before the container says they do."""
    length = end - first
    if stream.duration:
        return float(stream.duration * stream.time_base) - length > _CUT_OFF_S
    # Matroska writes the length of each track as a tag. It counts from time 0 in some writers' files and from
    # the first frame in others', as does the length of the whole.
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "").strip())
    if tag:
        hours, minutes, seconds = tag.groups()
        declared = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    elif container.duration and len(container.streams) == 1:
        declared = container.duration / 1_000_000
    else:
        return False
    return declared - max(length, end) > _CUT_OFF_S
