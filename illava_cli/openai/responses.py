"""`POST /v1/responses`: what a request's body asks, and the bodies and events of its answer.

Nothing is stored: a conversation goes on by sending it again, not by `previous_response_id`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from illava_cli.engine.record import Generation
from illava_cli.openai import options as of
from illava_cli.openai.answers import about, counts, finish_reason, token_logprobs, visual_tokens
from illava_cli.openai.asked import Asked, Bounds, Served
from illava_cli.openai.errors import error_body
from illava_cli.openai.fields import check_json, flag, given, integer, kind, refused, text
from illava_cli.openai.messages import Conversation

TOKENS = ("max_output_tokens",)
OWN = ("model", "input", "instructions", "text", "top_logprobs", "include", "stream", "stream_options")
IGNORED = (*of.IGNORED, "reasoning", "max_tool_calls", "image", "context_management", "access_programs")
NEUTRAL = of.NEUTRAL | {
    "n": (1,),
    "background": (False,),
    "background_options": (),
    "conversation": (),
    "previous_response_id": (),
    "prompt": (),
    "truncation": ("disabled",),
}
KNOWN = (*OWN, *TOKENS, *of.DECODING, *of.OURS, *of.BESIDE)
# what a response says again of its request, and what it says where that was left out
ECHO: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "temperature": None,
    "top_p": None,
    "user": None,
}
LOGPROBS = "message.output_text.logprobs"  # to be included


def read_response(body: dict[str, Any], bounds: Bounds = Bounds()) -> Asked:
    """What the body of a request asks; the options of decoding and media are those of a chat completion.

    Raises:
        RequestError: what is no request, or asks for what is not done here; names the place.
    """
    check_json(body, halves=bounds.paths)
    fields = given(body, "", KNOWN, (*NEUTRAL, *IGNORED))
    of.refuse_others(fields, NEUTRAL)
    options = of.decoding(fields, TOKENS, bounds) | of.ours(fields, bounds) | _logprobs(fields)
    form = _form(fields)
    options |= of.schema_of(form, "text.format")
    if not isinstance(metadata := fields.get("metadata", {}), dict):
        refused("metadata", f"must be an object, not {kind(metadata)}")
    given(fields.get("stream_options", {}), "stream_options", ("include_obfuscation",))
    return of.asked(
        _conversation(fields, bounds),
        options,
        bounds,
        stream=flag(fields.get("stream", False), "stream"),
        include_usage=True,
        merge_map=flag(fields.get("merge_map", False), "merge_map"),
        model=text(fields.get("model", ""), "model"),
        echo={name: fields.get(name, default) for name, default in ECHO.items()} | {"text": {"format": form}},
    )


def _conversation(fields: Mapping[str, Any], bounds: Bounds) -> Conversation:
    items = fields.get("input")
    if items is None:
        refused("input", "is missing: give a text or a list of messages")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list):
        refused("input", f"must be a text or a list of messages, not {kind(items)}")
    for index, item in enumerate(items):
        found = item.get("type") if isinstance(item, dict) else None
        if found is not None and found != "message":
            refused(f"input[{index}].type", "only items of type message are read here")
    instructions = None
    if "instructions" in fields:
        instructions = text(fields["instructions"], "instructions")
    return Conversation(items, "input", bounds, instructions)


def _logprobs(fields: Mapping[str, Any]) -> dict[str, int]:
    include = fields.get("include", [])
    if not isinstance(include, list):
        refused("include", f"must be a list of texts, not {kind(include)}")
    top = integer(fields.get("top_logprobs", 0), "top_logprobs", 0, 20)
    return {"logprobs": top} if LOGPROBS in include else {}


def _form(fields: Mapping[str, Any]) -> Any:
    """The wanted form of the text."""
    form = given(fields.get("text", {}), "text", ("format", "verbosity")).get("format", {"type": "text"})
    # clients want a name in what comes back
    named = isinstance(form, dict) and form.get("type") == "json_schema"
    return {"name": "schema"} | form if named else form


# --- the answer ---------------------------------------------------------------------------------------


def response(generation: Generation, served: Served, asked: Asked) -> dict[str, Any]:
    """The body of an answer."""
    record = generation.record()
    whole = finish_reason(record) == "stop"
    status = "completed" if whole else "incomplete"
    prompt, cached, completion = counts([record])
    return _body(served, asked, status) | {
        "completed_at": int(time.time()) if whole else None,
        "incomplete_details": None if whole else {"reason": "max_output_tokens"},
        "output": [_message(served, status, [_text(record["text"], record.get("logprobs"))])],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
            "visual_tokens": visual_tokens(record),
        },
        "illava": about([record], served),
    }


class ResponseEvents:
    """The events of an answer that is streamed: `begin`, pieces, and `end` or `fail`."""

    def __init__(self, served: Served, asked: Asked):
        self.served, self.asked = served, asked
        self._sent = 0
        self._place = {"item_id": _message_id(served), "output_index": 0, "content_index": 0}

    def begin(self) -> list[dict[str, Any]]:
        """The events before any text."""
        started = _body(self.served, self.asked, "in_progress")
        item = _message(self.served, "in_progress", [])
        return [
            self._event("response.created", response=started),
            self._event("response.in_progress", response=started),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place, part=_text("", None)),
        ]

    def piece(self, text: str, logprobs: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """A piece of the text.

        Args:
            logprobs: of the tokens that came since the last piece, as in `Generation.logprobs`.
        """
        told = token_logprobs(logprobs or (), unknown=[])
        return self._event("response.output_text.delta", **self._place, delta=text, logprobs=told)

    def end(self, generation: Generation) -> list[dict[str, Any]]:
        """The events after all text; the last holds the whole response."""
        body = response(generation, self.served, self.asked)
        (item,) = body["output"]
        (part,) = item["content"]
        said = {"text": part["text"], "logprobs": part["logprobs"]}
        return [
            self._event("response.output_text.done", **self._place, **said),
            self._event("response.content_part.done", **self._place, part=part),
            self._event("response.output_item.done", output_index=0, item=item),
            self._event(f"response.{body['status']}", response=body),
        ]

    def fail(self, error: BaseException) -> list[dict[str, Any]]:
        """The last event of an answer that broke off."""
        status, told = error_body(error)
        code = "server_error" if status >= 500 else "invalid_prompt"  # it knows no other that fits
        failed = {"error": {"code": code, "message": told["error"]["message"]}}
        body = _body(self.served, self.asked, "failed") | failed
        return [self._event("response.failed", response=body)]

    def _event(self, name: str, **fields: Any) -> dict[str, Any]:
        event = {"type": name, "sequence_number": self._sent, **fields}
        self._sent += 1
        return event


def _body(served: Served, asked: Asked, status: str) -> dict[str, Any]:
    """A response of which nothing is said yet."""
    return {
        "id": f"resp_{served.id}",
        "object": "response",
        "created_at": served.created,
        "status": status,
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": served.model,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "tool_choice": "none",
        "tools": [],
        "top_logprobs": asked.settings.get("generation", {}).get("logprobs") or 0,
        "truncation": "disabled",
        "usage": None,
        **asked.echo,
    }


def _message_id(served: Served) -> str:
    return f"msg_{served.id}"


def _message(served: Served, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"id": _message_id(served), "type": "message", "role": "assistant"}
    return about | {"status": status, "content": content}


def _text(text: str, logprobs: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    told = token_logprobs(logprobs or (), unknown=[])
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}
