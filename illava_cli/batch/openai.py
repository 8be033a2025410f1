"""The form of OpenAI's batches: a line of their input file as an item, a record as a line of their output."""

from __future__ import annotations

import hashlib
from typing import Any

from illava_cli.batch.item import Item, settings_of
from illava_cli.engine.fields import refuse_unknown
from illava_cli.engine.markers import KINDS, interleaved
from illava_cli.errors import UsageError
from illava_cli.text import near_miss

ENDPOINT = "/v1/chat/completions"
LINE = ("custom_id", "method", "url", "body")
# a request's own names for our settings; the last given of two that mean the same holds
OPTIONS = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
}
# what may be there with this value only, as it changes nothing then
NEUTRAL: dict[str, Any] = {
    "n": 1,
    "stream": False,
    "logprobs": False,
}
FORMATS = ("text", "json_object", "json_schema")
IGNORED = ("model", "messages", "user", "metadata", "store", "service_tier", "safety_identifier")


def read_line(data: dict[str, Any], where: str, folder: str) -> Item:
    """One line of an input file. Its `model` is not looked at: the run's model answers.

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
    system, parts = _conversation(body["messages"], where)
    if not any(kind == "text" and value.strip() for kind, value in parts):
        raise UsageError(f"{where}: asks nothing: no message of the user has text")
    images, videos = (tuple(value for kind, value in parts if kind == wanted) for wanted in KINDS)
    settings = _options(body, where)
    if system is not None:
        settings["system"] = system
    return Item(
        custom_id,
        interleaved(parts),
        images,
        videos,
        settings_of(settings, where),
        folder=folder,
        where=where,
    )


def _options(body: dict[str, Any], where: str) -> dict[str, Any]:
    settings = {}
    for name, value in body.items():
        if name in IGNORED or value is None:
            continue
        if name in NEUTRAL:
            if value != NEUTRAL[name]:
                raise UsageError(f"{where}: body.{name} is not supported: leave it out")
        elif name in OPTIONS:
            settings[OPTIONS[name]] = value
        elif name == "response_format":
            settings |= _format(value, where)
        else:
            known = [*OPTIONS, *NEUTRAL, "response_format"]
            raise UsageError(f"{where}: body.{name} is not supported{near_miss(name, known)}")
    return settings


def _format(value: Any, where: str) -> dict[str, Any]:
    """What an answer conforms to."""
    form = value.get("type") if isinstance(value, dict) else None
    if form not in FORMATS:
        raise UsageError(f"{where}: body.response_format: type must be one of {', '.join(FORMATS)}")
    if form == "text":
        return {}
    if form == "json_object":
        return {"json_schema": {"type": "object"}}
    named = value.get("json_schema")
    if not isinstance(named, dict) or not isinstance(named.get("schema"), dict):
        raise UsageError(f"{where}: body.response_format: json_schema has no schema")
    return {"json_schema": named["schema"]}


def _conversation(messages: list[Any], where: str) -> tuple[str | None, list[tuple[str, str]]]:
    """The system prompt, and the user's texts and media in their order."""
    system: list[str] = []
    parts: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, dict) or "content" not in message:
            raise UsageError(f"{where}: a message has a role and a content")
        role, content = message.get("role"), message["content"]
        entries = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UsageError(f"{where}: content must be a text or a list of parts")
        if role in ("system", "developer"):
            system += [_part(entry, where, ("text",))[1] for entry in entries]
        elif role == "user":
            parts += [_part(entry, where, ("text", "image_url", "video_url")) for entry in entries]
        else:
            raise UsageError(f"{where}: a message of role {role!r}: only single questions are answered")
    return "\n".join(system) if system else None, parts


def _part(entry: dict[str, Any], where: str, known: tuple[str, ...]) -> tuple[str, str]:
    kind = entry.get("type")
    if kind not in known:
        raise UsageError(f"{where}: a part of type {kind!r} is not supported (there are: {', '.join(known)})")
    value = entry.get(kind)
    if kind != "text" and isinstance(value, dict):
        value = value.get("url")
    if not isinstance(value, str) or (kind != "text" and not value):
        raise UsageError(f"{where}: a part of type {kind!r} has no {'text' if kind == 'text' else 'url'}")
    return kind.removesuffix("_url"), value


def to_line(record: dict[str, Any]) -> dict[str, Any]:
    """A record as a line of OpenAI's output file."""
    name = hashlib.sha256(f"{record['id']} {record['request_hash']}".encode(errors="replace")).hexdigest()[
        :24
    ]
    line = {"id": f"batch_req_{name}", "custom_id": record["id"], "response": None, "error": None}
    if record["status"] == "error":
        error = record["error"]
        return line | {"error": {"code": error["type"], "message": error["message"]}}
    usage = record["usage"]
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    body = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": record["created"],
        "model": record["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": record["text"], "refusal": None},
                "logprobs": None,
                "finish_reason": record["finish_reason"],
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
        "system_fingerprint": record["config_hash"],
    }
    return line | {"response": {"status_code": 200, "request_id": f"req_{name}", "body": body}}
