"""What each client does: drawn from a seed, so that a run can be had again."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parents[2] / "illava_cli" / "assets"
SIZES = ((64, 64), (320, 200), (90, 240), (500, 500), (800, 300), (33, 47))
PROMPTS = (
    "What shape is the red one?",
    "How many shapes are there?",
    "What is shown?",
    "What colour is the square?",
    "Where is the circle?",
    "Describe what you see in a few words.",
)
LEAVING, BROKEN = 0.2, 0.1  # shares of the clients
LONG = 400  # tokens of an answer that is not waited for


@dataclass(frozen=True)
class Turn:
    """A question, and the bytes of its media."""

    prompt: str
    images: tuple[bytes, ...] = ()
    videos: tuple[bytes, ...] = ()

    def content(self) -> list[dict[str, Any]]:
        """As a message of a chat completion has it."""
        parts = [_part("image_url", "image/png", data) for data in self.images]
        parts += [_part("video_url", "video/mp4", data) for data in self.videos]
        return [*parts, {"type": "text", "text": self.prompt}]


@dataclass(frozen=True)
class Client:
    """What a client does.

    Args:
        turns: its conversation.
        options: of its requests, such as `num_frames`.
        stream: whether it reads events.
        leaves: after so many pieces, or seconds/100 where it reads none; None: it stays.
        broken: the name of what is wrong with its request, else empty.
    """

    number: int
    turns: tuple[Turn, ...]
    options: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    leaves: int | None = None
    broken: str = ""


def _part(kind: str, mime: str, data: bytes) -> dict[str, Any]:
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return {"type": kind, kind: {"url": url}}


def _file(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def _picture(size: tuple[int, int], seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


class Media:
    """Pictures of several sizes, and clips."""

    def __init__(self, seed: int):
        pictures = [_file(_picture(size, seed + n), format="PNG") for n, size in enumerate(SIZES)]
        self.pictures = [(ASSETS / "shapes.jpg").read_bytes(), *pictures]
        frames = [_picture((96, 64), seed + n) for n in range(6)]
        moving = _file(frames[0], format="GIF", save_all=True, append_images=frames[1:], duration=200)
        self.clips = [(ASSETS / "shapes.mp4").read_bytes(), moving]


BREAKS = ("json", "field", "media", "cut clip", "inner host", "preset", "long", "role", "type", "many")


def broken(kind: str, media: Media) -> tuple[bytes | dict[str, Any], dict[str, str]]:
    """A request that must be refused: its body, and its headers."""
    good = {"messages": [{"role": "user", "content": Turn(PROMPTS[0], (media.pictures[0],)).content()}]}
    headers = {"content-type": "application/json"}
    text = good["messages"][0]
    inner = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}
    many = [inner] * 1000

    def said(*parts: dict[str, Any], **rest: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]} | rest

    bodies: dict[str, Any] = {
        "json": b'{"messages": [',
        "field": good | {"temprature": 1},
        "media": said(_part("image_url", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(99))),
        "cut clip": said(_part("video_url", "video/mp4", media.clips[0][:999])),
        "inner host": said(inner),
        "preset": good | {"preset": "none such"},
        "long": {"messages": [{"role": "user", "content": "word " * 30_000}]},
        "role": {"messages": [text | {"role": "king"}]},
        "type": {"messages": 7},
        "many": said(*many),
    }
    return bodies[kind], headers


def planned(clients: int, seed: int, media: Media) -> list[Client]:
    """What each client does."""
    rng = random.Random(seed)
    leaving, breaking = round(LEAVING * clients), round(BROKEN * clients)
    fates = ["leaves"] * leaving + ["broken"] * breaking
    fates += ["stays"] * (clients - len(fates))
    rng.shuffle(fates)
    return [_client(number, fate, rng, media) for number, fate in enumerate(fates)]


def _client(number: int, fate: str, rng: random.Random, media: Media) -> Client:
    stream = rng.random() < 0.5
    if fate == "broken":
        return Client(number, (), stream=stream, broken=BREAKS[number % len(BREAKS)])
    options: dict[str, Any] = {}
    kind = rng.choice(("text", "image", "images", "clip", "conversation", "conversation"))
    if kind == "conversation":
        turns = (_turn("image", rng, media), _turn("text", rng, media), _turn("image", rng, media))
    else:
        turns = (_turn(kind, rng, media),)
    if kind == "clip":
        options["num_frames"] = rng.choice((4, 8))
    elif kind in ("image", "images") and rng.random() < 0.3:
        options["max_tiles"] = 1
    leaves = rng.choice((0, 1, 5, 20)) if fate == "leaves" else None
    return Client(number, turns, options, stream, leaves)


def _turn(kind: str, rng: random.Random, media: Media) -> Turn:
    images = {"image": 1, "images": 3}.get(kind, 0)
    clips = (rng.choice(media.clips),) if kind == "clip" else ()
    return Turn(rng.choice(PROMPTS), tuple(rng.sample(media.pictures, images)), clips)
