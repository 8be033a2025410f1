"""OpenAI's batches: a line of their input file as an item, a record as a line of their output."""

from __future__ import annotations

import hashlib
from typing import Any

from illava_cli.batch.item import Item, settings_of
from illava_cli.engine.fields import refuse_unknown
from illava_cli.errors import UsageError
from illava_cli.openai.asked import Asked, Bounds, Served
from illava_cli.openai.chat import completion_of, read_chat
from illava_cli.openai.errors import RequestError

ENDPOINT = "/v1/chat/completions"
LINE = ("custom_id", "method", "url", "body")
# whose file it is, is who runs it; a line without a seed has the run's
BOUNDS = Bounds(
    max_parts=10**6,
    max_texts=10**6,
    max_frames=None,
    max_tiles=None,
    max_pixels=None,
    paths=True,
    temperature=None,
)
# what only a server does for each request, or a run decides for all its lines
ELSEWHERE = {"n": 1, "stream": False, "merge_map": False, "keep": None, "method": None}


def read_line(data: dict[str, Any], where: str, folder: str) -> Item:
    """One line of an input file.

    Its `model` is not looked at, as the run's answers, nor the `detail` of its images, of which that model
    may know none: `max_tiles` says it.

    Args:
        folder: what relative paths in `url` are relative to.

    Raises:
        UsageError: what these models or this program do not do; says where.
    """
    refuse_unknown(data, LINE, where)
    custom_id, body = data["custom_id"], data.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise UsageError(f"{where}: custom_id must be a text")
    if data.get("method", "POST") != "POST" or data.get("url", ENDPOINT) != ENDPOINT:
        raise UsageError(f"{where}: only POST {ENDPOINT} is answered")
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise UsageError(f"{where}: body must have a list of messages")
    try:
        asked = read_chat(body, BOUNDS)
    except RequestError as error:
        raise UsageError(f"{where}: body.{error}") from None
    _refuse_others(asked, where)
    (only,) = asked.rounds
    settings = settings_of(_settings(asked), where)
    return Item(custom_id, only.prompt, only.images, only.videos, settings, folder=folder, where=where)


def _refuse_others(asked: Asked, where: str) -> None:
    if asked.answers:
        raise UsageError(f"{where}: body.messages: a conversation: only single questions are answered")
    refused = [name for name, value in ELSEWHERE.items() if getattr(asked, name) != value]
    for name in [*refused, *(["preset"] if "preset" in asked.settings else [])]:
        raise UsageError(f"{where}: body.{name} is not supported for a single line: leave it out")


def _settings(asked: Asked) -> dict[str, Any]:
    """What a line changes of the run's settings, by their own names."""
    settings = {name: value for group in asked.settings.values() for name, value in group.items()}
    if asked.low_detail:
        del settings["max_tiles"]
    return settings | ({"system": asked.system} if asked.system is not None else {})


def to_line(record: dict[str, Any]) -> dict[str, Any]:
    """A record as a line of OpenAI's output file."""
    whole = f"{record['id']} {record['request_hash']}".encode(errors="replace")
    name = hashlib.sha256(whole).hexdigest()[:24]
    line = {"id": f"batch_req_{name}", "custom_id": record["id"], "response": None, "error": None}
    if record["status"] == "error":
        error = record["error"]
        return line | {"error": {"code": error["type"], "message": error["message"]}}
    body = completion_of([record], Served(name, record["created"], record["model"], record["config_hash"]))
    return line | {"response": {"status_code": 200, "request_id": f"req_{name}", "body": body}}
