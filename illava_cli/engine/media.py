"""From a question's media to the pixels that the tower is shown: which frames, how large, in which time.

Imports no torch: the processes that read ahead use it too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from illava_cli.config.options import MediaOptions
from illava_cli.config.stages import GuideStage
from illava_cli.engine.features import content_key
from illava_cli.engine.record import MediaRecord
from illava_cli.engine.request import READ, Encoded, Prepared, Progress, Request, Slot
from illava_cli.media import (
    EVERYTHING,
    Access,
    ImageMedium,
    Located,
    VideoMedium,
    locate,
    read_image,
    read_video,
    within,
)
from illava_cli.media.deadline import checkpoint
from illava_cli.media.sources import called
from illava_cli.media.spool import Spool

if TYPE_CHECKING:
    from illava_cli.engine.rules import Rules
    from illava_cli.models.family import Family
    from illava_cli.models.guide import Guide, Region
    from illava_cli.models.media import Pixels

DEFAULT_FRAMES = 32
STORED = str | os.PathLike | bytes | bytearray | memoryview | Located  # has to be found and decoded yet

T = TypeVar("T")


# --- as a configuration wants them read ---------------------------------------------------------------


def sampling(options: MediaOptions) -> dict[str, Any]:
    """Which frames of a video are read, and by what: the options of `read_video`."""
    return {
        "num_frames": options.num_frames if options.num_frames or options.fps else DEFAULT_FRAMES,
        "fps": options.fps,
        "max_frames": options.max_frames,
        "start": options.start,
        "end": options.end,
        "backend": options.video_backend,
        "max_megapixels": options.max_megapixels,
    }


def read_picture(
    source: Any,
    options: MediaOptions,
    cancel: threading.Event | None = None,
    access: Access = EVERYTHING,
) -> ImageMedium:
    """An image.

    Args:
        cancel: set it to give up.
        access: what may be got.

    Raises:
        MediaError: it cannot be read, or not in time.
        Cancelled: it was given up.
    """
    return _in_time(
        lambda found: read_image(found, max_megapixels=options.max_megapixels),
        source,
        options,
        cancel,
        access,
    )


def read_clip(
    source: Any,
    options: MediaOptions,
    transform: Callable[[np.ndarray, int], Any] | None,
    cancel: threading.Event | None = None,
    access: Access = EVERYTHING,
    on_frame: Callable[[int, int], None] | None = None,
) -> VideoMedium:
    """The frames of a clip, each through `transform`, if there is one, as soon as it is decoded.

    Args:
        cancel: set it to give up.
        access: what may be got.
        on_frame: called with how many frames are read, and how many there are to read.

    Raises:
        MediaError: it cannot be read, or not in time.
        Cancelled: it was given up.
    """
    done = 0

    def transformed(frame: np.ndarray, count: int) -> Any:
        nonlocal done
        checkpoint()
        made = frame if transform is None else transform(frame, count)
        done = min(done + 1, count)  # another decoder may have begun anew
        if on_frame is not None:
            on_frame(done, count)
        return made

    return _in_time(
        lambda found: read_video(found, transform=transformed, **sampling(options)),
        source,
        options,
        cancel,
        access,
    )


def _in_time(
    read: Callable[[Any], T],
    source: Any,
    options: MediaOptions,
    cancel: threading.Event | None,
    access: Access,
) -> T:
    if not isinstance(source, STORED):
        return read(source)
    name = called(source, access)
    return within(lambda: read(locate(source, access)), name, options.media_timeout, cancel)


# --- as the tower is shown them -----------------------------------------------------------------------


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

    def regions(self, pictures: Sequence[np.ndarray], frames_alone: bool = False) -> list[Region]:
        """What of an image, or of a video's frames, is shown."""
        return self.guide.regions(pictures, self.prompt, self.stage, frames_alone=frames_alone)


class MediaReader:
    """Reads media for one question to a model."""

    def __init__(
        self,
        family: Family,
        options: MediaOptions,
        rules: Rules,
        guidance: Guidance | None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ):
        """
        Args:
            rules: what is done to media.
            cancel: set it to give up what is being read.
            progress: called as a clip's frames are read.
        """
        self.family, self.options, self.rules = family, options, rules
        self.guidance, self.cancel = guidance, cancel
        self.on_frame = None if progress is None else partial(progress, READ)

    def prepare(self, request: Request, fresh: bool) -> Prepared:
        """Read and preprocess a question's media.

        Args:
            fresh: encode anew what was encoded before.

        Raises:
            MediaError: a medium that cannot be read.
        """
        started = time.perf_counter()
        alone = self.options.tiles(len(request.images))
        seen = {Slot("image", i): self.image(source, alone) for i, source in enumerate(request.images)}
        seen |= {Slot("video", i): self.video(source) for i, source in enumerate(request.videos)}
        slots, tokens = {}, 0
        for slot, one in seen.items():
            kept = None if fresh else self.rules.features.get(one.key)
            pixels = None if kept is not None else self.rules.admitted(one.pixels())
            slots[slot] = Encoded(one.key, pixels, kept)
            if pixels is not None:
                tokens += sum(pixels.entering)
            else:
                tokens += kept.patches // self.family.patches_per_token
        records = [one.record for one in seen.values()]
        return Prepared(request, slots, records, tokens, time.perf_counter() - started, self.rules.settings)

    def image(self, source: Any, alone: bool) -> Seen:
        """An image; `alone`: it is taken as the only one of its turn."""
        medium = read_picture(source, self.options, self.cancel)
        shown, whole = medium.image, (medium.height, medium.width)
        record = MediaRecord(medium.source, "image", medium.width, medium.height)
        if self.guidance is not None:
            (region,) = self.guidance.regions([np.asarray(shown)])
            shown = shown.crop(region.box)
            record = replace(record, crops=[list(region.box)])
        options = self.options
        if (shown.height, shown.width) == whole:
            key = content_key([shown], "image", alone, *options.bounds, self.rules.settings)
            return Seen(key, record, lambda: self.family.preprocess_image(shown, options, alone))
        key = content_key([shown], "region", whole, alone, *options.bounds, self.rules.settings)
        return Seen(key, record, lambda: self.family.preprocess_region(shown, whole, options, alone))

    def video(self, source: Any) -> Seen:
        """The sampled frames of a video."""
        # a guide chooses among all pixels: then whole frames are kept
        resize = None if self.guidance else partial(self.family.resize_frame, options=self.options)
        video = read_clip(source, self.options, resize, self.cancel, on_frame=self.on_frame)
        crops = []
        if self.guidance is not None:
            regions = self.guidance.regions(video.frames, self.family.frames_of_one_size)
            video, crops = self._shown(video, regions), [list(region.box) for region in regions]
        budget = self.options.video_budget
        key = content_key(video.frames, "video", video.timestamps, budget, self.rules.settings)
        times = [round(time, 3) for time in video.timestamps]
        record = MediaRecord(
            video.source, "video", video.width, video.height, list(video.indices), times, crops
        )

        def pixels() -> Pixels:
            seen = self.family.preprocess_video(video.frames).timed(video.timestamps)
            return replace(seen, budget=budget)

        return Seen(key, record, pixels)

    def _shown(self, video: VideoMedium, regions: list[Region]) -> VideoMedium:
        """The regions of the frames that a guide chose."""

        def shown() -> Iterator[np.ndarray]:
            for region in regions:
                frame = video.frames[region.frame]
                left, top, right, bottom = region.box
                part = frame[top:bottom, left:right]
                if part.shape == frame.shape:
                    yield self.family.resize_frame(frame, len(regions), self.options)
                else:
                    yield self.family.resize_region(part, frame.shape[:2], len(regions), self.options)

        chosen = [region.frame for region in regions]
        times = tuple(video.timestamps[i] for i in chosen) if video.timestamps else ()
        indices = tuple(video.indices[i] for i in chosen)
        return replace(video, frames=Spool.of(shown()), indices=indices, timestamps=times)
