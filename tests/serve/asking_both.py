"""One question, to a server and to a session in this process: media and messages for both."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from illava_cli.engine.session import Session
from tests.conftest import picture
from tests.serve.bombs import data_url, packed

SAMPLES = Path(__file__).parents[2] / "illava_cli" / "assets"


def png(width: int, height: int, seed: int = 0) -> bytes:
    """A picture's file."""
    return packed(picture(width, height, seed), "PNG")


SHAPES = (SAMPLES / "shapes.jpg").read_bytes()
CLIP = (SAMPLES / "shapes.mp4").read_bytes()
WIDE, TALL = png(180, 90, seed=1), png(70, 160, seed=2)


@dataclass(frozen=True)
class Question:
    """A question and its media, as the bytes of their files."""

    text: str
    images: tuple[bytes, ...] = ()
    videos: tuple[bytes, ...] = ()

    @property
    def content(self) -> list[dict[str, Any]]:
        """As a chat completion has it."""
        parts = [{"type": "image_url", "image_url": {"url": data_url(data)}} for data in self.images]
        parts += [
            {"type": "video_url", "video_url": {"url": data_url(data, "video/mp4")}} for data in self.videos
        ]
        return [*parts, {"type": "text", "text": self.text}]

    @property
    def items(self) -> list[dict[str, Any]]:
        """As a response has it."""
        parts = [{"type": "input_image", "image_url": data_url(data)} for data in self.images]
        parts += [{"type": "input_video", "video_url": data_url(data, "video/mp4")} for data in self.videos]
        return [{"role": "user", "content": [*parts, {"type": "input_text", "text": self.text}]}]

    @property
    def media(self) -> tuple[list[Image.Image], list[bytes]]:
        """As a session takes them."""
        return [Image.open(io.BytesIO(data)).convert("RGB") for data in self.images], list(self.videos)

    def asked_of(self, session: Session) -> Any:
        """The answer in this process."""
        return session.ask(self.text, *self.media)


def user(question: Question) -> dict[str, Any]:
    """The message of a question."""
    return {"role": "user", "content": question.content}


def asked(*questions: Question, answers: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """The body of a chat completion: questions, and what was answered to all but the last."""
    messages = []
    for number, question in enumerate(questions):
        messages.append(user(question))
        if number < len(answers):
            messages.append({"role": "assistant", "content": answers[number]})
    return {"model": "tiny", "messages": messages, **fields}


QUESTIONS = {
    "text": Question("What is the colour of the sky?"),
    "image": Question("What shape is the red one?", (SHAPES,)),
    "images": Question("How many shapes are there?", (WIDE, SHAPES, TALL)),
    "video": Question("Which way does the circle move?", videos=(CLIP,)),
    "both": Question("What is shown?", (SHAPES,), (CLIP,)),
}


def gathered(function: Any) -> Any:
    """What a coroutine function gives."""
    return asyncio.run(function())
