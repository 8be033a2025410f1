"""The one rule that picks which frames of a clip the model sees; every decoder follows it.

It works on presentation timestamps, so a variable frame rate is sampled evenly in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from illava_cli.errors import MediaError, UsageError

# Matroska rounds timestamps to the millisecond: a window edge this close to a frame includes it.
EDGE_S = 5e-4
# Below this, a sampling time is taken to lie midway between two frames rather than nearer to one.
_TIE_S = 1e-6
MAX_FPS = 1000.0  # the resolution of the timestamps


def check_sampling(
    num_frames: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
) -> None:
    """Raises `UsageError` for options that no clip could satisfy, before any file is opened."""
    if num_frames is not None and fps is not None:
        raise UsageError("num_frames and fps were both given; give one of them")
    if num_frames is not None and num_frames < 1:
        raise UsageError(f"num_frames is {num_frames}; it must be 1 or more")
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise UsageError(f"fps is {fps}; it must be above 0 and at most {MAX_FPS:.0f}")
    for label, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{label} is {value}; it must be a time in seconds, 0 or more")
    if end is not None and (start or 0.0) >= end:
        raise UsageError(f"start ({start or 0.0:g} s) is not before end ({end:g} s); swap or widen them")


def frame_indices(
    timestamps: Sequence[float],
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    max_frames: int | None = None,
) -> list[int]:
    """Indices into `timestamps` (seconds, ascending) of the frames to use, ascending.

    The window [start, end] keeps the frames whose timestamps lie in it (edges included). Within it,
    `num_frames` takes the frames nearest to that many times spaced evenly from the first to the last
    frame; `fps` those nearest to one time each 1/fps seconds from the first frame; neither takes all.
    Where these would be more than `max_frames`, it is `num_frames` of that many.
    A time midway between two frames takes the one with the even index. At a constant frame rate
    `num_frames` is exactly `np.linspace(first, last, num_frames).round()` over the indices. No frame is
    taken twice: where a variable frame rate leaves gaps, fewer than `num_frames` come back.

    Raises `UsageError` for contradictory options and `MediaError` when the window holds no frame.
    """
    check_sampling(num_frames, fps, start, end)
    times = np.asarray(timestamps, dtype=np.float64)
    inside = np.ones(len(times), dtype=bool)
    if start is not None:
        inside &= times >= start - EDGE_S
    if end is not None:
        inside &= times <= end + EDGE_S
    selected = np.flatnonzero(inside)
    if not len(selected):
        span = f"{times[-1]:.3f} s" if len(times) else "no frame at all"
        window = f"{start or 0.0:g} s to {'the end' if end is None else f'{end:g} s'}"
        raise MediaError(
            f"no frame lies within {window}; the last frame of the clip is at {span}; move the window"
        )

    first, last = times[selected[0]], times[selected[-1]]
    if max_frames is not None:
        wished = len(selected) if fps is None else math.floor((last - first) * fps + _TIE_S) + 1
        if min(wished, num_frames or wished) > max_frames:
            num_frames = max_frames
    if num_frames is not None:
        if num_frames >= len(selected):
            return selected.tolist()
        if np.abs(times[selected] - np.linspace(first, last, len(selected))).max() <= 2 * EDGE_S:
            # At a constant rate the indices say it without the rounding of the timestamps (of each frame
            # and of the two at the ends).
            return np.linspace(selected[0], selected[-1], num_frames).round().astype(int).tolist()
        wanted = np.linspace(first, last, num_frames)
    elif fps is not None:
        wanted = first + np.arange(math.floor((last - first) * fps + _TIE_S) + 1) / fps
    else:
        return selected.tolist()
    return np.unique(_nearest(times[selected], wanted, int(selected[0]))).tolist()


def _nearest(times: np.ndarray, wanted: np.ndarray, offset: int) -> np.ndarray:
    """Index, counted from `offset`, of the element of `times` nearest to each element of `wanted`."""
    right = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    lead = (times[right] - wanted) - (wanted - times[left])
    even_is_right = (right + offset) % 2 == 0
    take_right = (lead < -_TIE_S) | ((np.abs(lead) <= _TIE_S) & even_is_right)
    return np.where(take_right, right, left) + offset
