"""What a request asks, whichever endpoint it came to: the values between the wire and the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Round:
    """One turn of the user's.

    Args:
        prompt: `<image>` and `<video>` in it place the media, else these come first (`engine.markers`).
        images, videos: sources, see `illava_cli.media.sources`.
    """

    prompt: str
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request, checked as far as it can be without a model.

    Args:
        rounds: the user's turns; the last is to be answered.
        answers: what was answered to those before, one fewer.
        system: the system prompt; None: the template's own.
        settings: what differs from the server's: the groups `generation` and `media` as a YAML file nests
            them, and `preset` where one is named.
        keep: the share of the visual tokens that are kept, over 0 and at most 1.
        method: of all stages.
        low_detail: `settings` have one tile for an image because its `detail` is low: where a model has no
            tiles, that asks for nothing, as a `max_tiles` of the request itself would.
        n: how many answers.
        stream: whether it is answered by events.
        include_usage: whether the last event says the usage.
        merge_map: whether the merge map of the answer is wanted.
        model: the name that was asked for; empty where there is none.
        echo: what the answer's body says again of the request (of `/v1/responses`).
    """

    rounds: tuple[Round, ...]
    answers: tuple[str, ...] = ()
    system: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    keep: float | None = None
    method: str | None = None
    low_detail: bool = False
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    merge_map: bool = False
    model: str = ""
    echo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bounds:
    """What a request may ask for.

    Args:
        max_parts: images and videos in it.
        max_texts: messages, and texts in them.
        max_chars: of these together; None: any number, and so for the other bounds.
        max_frames: of a clip.
        max_tiles: of an image.
        max_pixels: that an image or a frame may be scaled to.
        max_n: answers.
        max_tokens: of an answer.
        paths: whether media may be paths of this machine; else they are http, https, data or file URLs.
        temperature: the server's own. A request that samples without a seed gets one of its own, so that it
            is answered otherwise each time; None: it gets none.
    """

    max_parts: int = 64
    max_texts: int = 2048
    max_chars: int | None = None
    max_frames: int | None = 256
    max_tiles: int | None = 64
    max_pixels: int | None = 1 << 24  # as many as Qwen3-VL takes of an image by itself
    max_n: int = 8
    max_tokens: int | None = None
    paths: bool = False
    temperature: float | None = 0.0


@dataclass(frozen=True)
class Served:
    """What an answer's body says of itself.

    Args:
        id: without the prefix of its endpoint, such as `chatcmpl-`.
        created: seconds since 1970.
        system_fingerprint: equal for answers under equal settings.
        merge_map: where the answer's merge map is found, if it is made.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str = ""
    merge_map: str | None = None
