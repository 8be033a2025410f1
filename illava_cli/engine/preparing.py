"""Reading a question's media and making pixels of them, for the tower of a family."""

from __future__ import annotations

import time
from dataclasses import replace

from illava_cli.config import MediaOptions
from illava_cli.engine.clips import read_clip
from illava_cli.engine.features import FeatureCache, content_key
from illava_cli.engine.prompt import Slot
from illava_cli.engine.record import MediaRecord
from illava_cli.engine.request import Prepared, Request
from illava_cli.media import read_image
from illava_cli.models.family import Family, Features, Pixels


def prepare(
    request: Request, family: Family, options: MediaOptions, tower: str, features: FeatureCache | None
) -> Prepared:
    """Read and preprocess a question's media.

    Args:
        tower: what of the schedule decides a medium's features.
        features: where media that were encoded before are found; None encodes all anew.

    Raises:
        MediaError: a medium that cannot be read.
    """
    started = time.perf_counter()
    slots: dict[Slot, tuple[str, Pixels | Features]] = {}
    media = []
    for index, source in enumerate(request.images):
        image = read_image(source)
        alone = len(request.images) == 1
        key = content_key([image.image], "image", alone, options.max_tiles, tower)
        kept = features.get(key) if features is not None else None
        slots[Slot("image", index)] = key, kept or family.prepare_image(image.image, options, alone)
        media.append(MediaRecord(image.source, "image", image.width, image.height))
    for index, source in enumerate(request.videos):
        video = read_clip(source, options, family.resize_frame)
        key = content_key(video.frames, "video", video.interval, tower)
        kept = features.get(key) if features is not None else None
        item = kept or replace(family.prepare_video(video.frames), interval=video.interval)
        slots[Slot("video", index)] = key, item
        media.append(MediaRecord(video.source, "video", video.width, video.height, list(video.indices)))
    tokens = sum(_tokens(item, family) for _, item in slots.values())
    return Prepared(request, slots, media, tokens, time.perf_counter() - started)


def _tokens(item: Pixels | Features, family: Family) -> int:
    if isinstance(item, Pixels):
        return item.segments * item.tokens
    return item.patches // family.patches_per_token
