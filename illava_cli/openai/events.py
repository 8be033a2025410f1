"""Server-sent events: the bytes of what is streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from illava_cli.text import json_text

DONE = b"data: [DONE]\n\n"  # the end of a chat completion
ALIVE = b": \n\n"  # a comment: says to what lies between that the answer is still on its way


def event(data: Mapping[str, Any]) -> bytes:
    """An event, under its own name where it has a `type` (those of `/v1/responses`)."""
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json_text(data, separators=(',', ':'))}\n\n".encode()
