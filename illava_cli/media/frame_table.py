"""Lists a clip's frames from its packets, without decoding: when each is shown and where seeking is safe."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from illava_cli.media.limits import checkpoint

if TYPE_CHECKING:
    import av

# A container's duration is rounded and may count a last frame's display time in its own way.
_CUT_OFF_S = 0.5


@dataclass(frozen=True)
class FrameTable:
    """The frames of one video stream in display order.

    `pts` are in the stream's ticks, `timestamps` in seconds from the first frame. `keyframes` are the
    pts at which decoding can start. `cut_off` says that the file ends before its declared end. `plain`
    says that packets and shown frames are one and the same and that every group of pictures can be
    decoded alone: only then do decord's frame numbers and seeks hit the right frames.
    """

    pts: tuple[int, ...]
    timestamps: tuple[float, ...]
    keyframes: tuple[int, ...]
    cut_off: bool
    plain: bool


def scan(container: av.container.InputContainer, stream: av.VideoStream) -> FrameTable | None:
    """The table of `stream`, or None when its packets do not say when they are shown."""
    from av.error import FFmpegError

    # (pts, dts, duration, is_keyframe) in decoding order. What an edit list hides is not listed, as
    # decoders swallow it.
    packets: list[tuple[int, int | None, int, bool]] = []
    hidden = cut_off = False
    try:
        for packet in container.demux(stream):
            checkpoint()
            if not packet.size:
                continue
            if packet.pts is None:
                return None
            cut_off |= packet.is_corrupt
            hidden |= packet.is_discard
            if not packet.is_discard:
                packets.append((packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
    except FFmpegError:
        cut_off = True

    keyframes = [(pts, dts, position) for position, (pts, dts, _, is_key) in enumerate(packets) if is_key]
    shown = [packet for packet in packets if hidden or not keyframes or packet[0] >= keyframes[0][0]]
    pts = sorted(packet[0] for packet in shown)
    if len(set(pts)) != len(pts):
        return None
    ticks = float(stream.time_base)
    # decord reserves memory for as many frames as are declared, and aborts the process where it cannot
    counted = stream.frames in (0, len(packets))
    if pts:
        found = (max(packet[0] + packet[2] for packet in shown) - pts[0]) * ticks
        cut_off |= _declared_seconds(container, stream) - found > _CUT_OFF_S
    return FrameTable(
        pts=tuple(pts),
        timestamps=tuple((value - pts[0]) * ticks for value in pts),
        keyframes=tuple(sorted(pts for pts, _, _ in keyframes)),
        cut_off=bool(cut_off),
        plain=counted
        and not hidden
        and not cut_off
        and len(shown) == len(packets)
        and _closed(pts, keyframes),
    )


def _closed(pts: Sequence[int], keyframes: Sequence[tuple[int, int | None, int]]) -> bool:
    """True when each keyframe comes at the same place in decoding and display order, and decord's seek,
    which mixes up pts and dts, cannot land on the keyframe after the one it looks for."""
    in_place = all(pts[position] == key for key, _, position in keyframes)
    pairs = itertools.pairwise(keyframes)
    return in_place and all(after[1] is None or after[1] > before[0] for before, after in pairs)


def _declared_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """How long the container says the video is; 0 when it says nothing about the video by itself."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska writes the length of each track as a tag.
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "").strip())
    if tag:
        hours, minutes, seconds = tag.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration and len(container.streams) == 1:
        return container.duration / 1_000_000
    return 0.0
