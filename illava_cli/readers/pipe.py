"""What was read, through a pipe: a clip's frames follow it one by one, so that neither end holds them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from illava_cli.media.spool import Spool
from illava_cli.readers.job import Media


def put(media: Media, send: Callable[[Any], None]) -> None:
    """Send what was read."""
    send(replace(media, videos=[replace(video, frames=()) for video in media.videos]))
    for video in media.videos:
        for frame in video.frames:
            send(frame)


def complete(media: Media, receive: Callable[[], Any]) -> Media:
    """What came of media, with the frames that come after it.

    Raises:
        OutputError: there is no room for them.
    """
    videos = [replace(video, frames=Spool.of(receive() for _ in video.indices)) for video in media.videos]
    return replace(media, videos=videos)
