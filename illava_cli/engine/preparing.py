"""Reading a question's media and making pixels of them, for the tower of a family."""

from __future__ import annotations

import time

from illava_cli.engine.features import FeatureCache
from illava_cli.engine.prompt import Slot
from illava_cli.engine.reading import MediaReader, Seen
from illava_cli.engine.record import MediaRecord
from illava_cli.engine.request import Prepared, Request
from illava_cli.models.family import Family
from illava_cli.models.media import Features, Pixels


def prepare(request: Request, reader: MediaReader, features: FeatureCache | None) -> Prepared:
    """Read and preprocess a question's media.

    Args:
        features: where media that were encoded before are found; None encodes all anew.

    Raises:
        MediaError: a medium that cannot be read.
    """
    started = time.perf_counter()
    slots: dict[Slot, tuple[str, Pixels | Features]] = {}
    media: list[MediaRecord] = []

    def take(slot: Slot, seen: Seen) -> None:
        kept = features.get(seen.key) if features is not None else None
        slots[slot] = seen.key, kept or seen.pixels()
        media.append(seen.record)

    alone = reader.options.tiles(len(request.images))
    for index, source in enumerate(request.images):
        take(Slot("image", index), reader.image(source, alone))
    for index, source in enumerate(request.videos):
        take(Slot("video", index), reader.video(source))
    tokens = sum(_tokens(item, reader.family) for _, item in slots.values())
    return Prepared(request, slots, media, tokens, time.perf_counter() - started)


def _tokens(item: Pixels | Features, family: Family) -> int:
    if isinstance(item, Pixels):
        return item.segments * item.tokens
    return item.patches // family.patches_per_token
