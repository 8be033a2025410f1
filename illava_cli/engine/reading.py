"""From the media of a question to the pixels that the tower is shown, all of them or what a guide chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from illava_cli.config import GuideStage, MediaOptions
from illava_cli.engine.clips import read_clip, read_picture
from illava_cli.engine.features import content_key
from illava_cli.engine.record import MediaRecord
from illava_cli.media import VideoMedium
from illava_cli.models.family import Family
from illava_cli.models.guide import Guide, View
from illava_cli.models.media import Pixels


@dataclass(frozen=True)
class Seen:
    """A medium as the tower is shown it; `key` is that of the feature cache, `pixels` preprocesses it."""

    key: str
    record: MediaRecord
    pixels: Callable[[], Pixels]


@dataclass(frozen=True)
class Guidance:
    """A guide and the prompt that it reads."""

    guide: Guide
    stage: GuideStage
    prompt: str

    def views(self, pictures: list[np.ndarray], frames_alone: bool = False) -> list[View]:
        """What of an image, or of a video's frames, is shown."""
        return self.guide.views(pictures, self.prompt, self.stage, frames_alone=frames_alone)


class MediaReader:
    """Reads media for one question to a model."""

    def __init__(
        self,
        family: Family,
        options: MediaOptions,
        settings: str,
        guidance: Guidance | None,
        cancel: threading.Event | None = None,
    ):
        """
        Args:
            settings: what else decides the features of a medium.
            cancel: set it to give up what is being read.
        """
        self.family, self.options, self.settings = family, options, settings
        self.guidance, self.cancel = guidance, cancel

    def image(self, source: Any, alone: bool) -> Seen:
        """An image; `alone`: it is taken as the only one of its turn."""
        medium = read_picture(source, self.options, self.cancel)
        shown, whole = medium.image, (medium.height, medium.width)
        record = MediaRecord(medium.source, "image", medium.width, medium.height)
        if self.guidance is not None:
            (view,) = self.guidance.views([np.asarray(shown)])
            shown = shown.crop(view.box)
            record = replace(record, crops=[list(view.box)])
        options = self.options
        if (shown.height, shown.width) == whole:
            key = content_key([shown], "image", alone, options.max_tiles, self.settings)
            return Seen(key, record, lambda: self.family.preprocess_image(shown, options, alone))
        key = content_key([shown], "region", whole, alone, options.max_tiles, self.settings)
        return Seen(key, record, lambda: self.family.preprocess_region(shown, whole, options, alone))

    def video(self, source: Any) -> Seen:
        """The sampled frames of a video."""
        # a guide chooses among all pixels: then whole frames are in memory at once
        resize = self.family.resize_frame if self.guidance is None else None
        video = read_clip(source, self.options, resize, self.cancel)
        crops = []
        if self.guidance is not None:
            views = self.guidance.views(video.frames, self.family.frames_of_one_size)
            video, crops = self._shown(video, views), [list(view.box) for view in views]
        key = content_key(video.frames, "video", video.interval, self.settings)
        times = [round(time, 3) for time in video.timestamps]
        record = MediaRecord(
            video.source, "video", video.width, video.height, list(video.indices), times, crops
        )

        def pixels() -> Pixels:
            return replace(self.family.preprocess_video(video.frames), interval=video.interval)

        return Seen(key, record, pixels)

    def _shown(self, video: VideoMedium, views: list[View]) -> VideoMedium:
        """The regions of the frames that a guide chose."""
        frames = []
        for view in views:
            frame = video.frames[view.frame]
            left, top, right, bottom = view.box
            region = frame[top:bottom, left:right]
            if region.shape == frame.shape:
                frames.append(self.family.resize_frame(frame))
            else:
                frames.append(self.family.resize_region(region, frame.shape[:2]))
        chosen = [view.frame for view in views]
        times = tuple(video.timestamps[i] for i in chosen) if video.timestamps else ()
        indices = tuple(video.indices[i] for i in chosen)
        return replace(video, frames=frames, indices=indices, timestamps=times)
