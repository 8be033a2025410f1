"""A clip within a number of visual tokens: so many of its frames, evenly spaced."""

from __future__ import annotations

from dataclasses import replace

from illava_cli.engine.session import Session
from illava_cli.errors import MediaError
from illava_cli.media import VideoMedium
from illava_cli.models.schedule import Schedule


def within_budget(session: Session, video: VideoMedium, budget: int) -> VideoMedium:
    """The clip with as many of its frames as fit.

    Args:
        video: its frames at the tower's size.
        budget: visual tokens that enter the decoder, before its own merging.

    Raises:
        MediaError: not one frame fits.
    """
    whole = len(video.frames)
    fitting = next((n for n in range(whole, 0, -1) if _tokens(session, video, n) <= budget), 0)
    if not fitting:
        least = _tokens(session, video, 1)
        raise MediaError(f"video_budget: one frame takes {least} visual tokens, over {budget}: allow more")
    if fitting == whole:
        return video
    chosen = [round((n + 0.5) * whole / fitting - 0.5) for n in range(fitting)]
    times = tuple(video.timestamps[n] for n in chosen) if video.timestamps else ()
    indices = tuple(video.indices[n] for n in chosen)
    return replace(video, frames=video.frames.chosen(chosen), indices=indices, timestamps=times)


def _tokens(session: Session, video: VideoMedium, frames: int) -> int:
    # of the frames as they are: by their number and the request's options they had other sizes before
    geometry = session.family.preprocess_video(video.frames[:frames])
    schedule = session.rules.schedules.get("video", Schedule())
    expansion = session.family.tokens(geometry, schedule) or session.family.tokens(geometry, Schedule())
    return expansion.total
