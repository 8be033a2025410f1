"""How far media have come on their way through the tower, told to whoever waits for an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from illava_cli.engine.request import ENCODE, Turn

if TYPE_CHECKING:
    from torch import Tensor

    from illava_cli.models.media import Pixels


@contextmanager
def through_tower(media: Sequence[Pixels], turns: Sequence[Turn]) -> Iterator[Sequence[Pixels]]:
    """The media, which tell of it when the tower asks for more of their segments; so does the block's end.

    Args:
        turns: whose `progress` is told.
    """
    listeners = [turn.progress for turn in turns if turn.progress is not None]
    if not listeners:
        yield media
        return
    total, done = sum(one.segments for one in media), 0

    def tell() -> None:
        for listener in listeners:
            listener(ENCODE, done, total)

    def pixel_values(one: Pixels, start: int, stop: int) -> Tensor:
        nonlocal done
        tell()
        done += stop - start
        return one.pixel_values(start, stop)

    yield [replace(one, pixel_values=partial(pixel_values, one)) for one in media]
    done = total
    tell()
