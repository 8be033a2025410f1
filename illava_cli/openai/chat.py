"""`POST /v1/chat/completions`: what a request's body asks, and the bodies and chunks of its answer.

What is left out is as the server is configured, which is not OpenAI's default: greedy, not temperature 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from illava_cli.engine.record import Generation
from illava_cli.openai import options as of
from illava_cli.openai.answers import about, finish_reason, token_logprobs, usage
from illava_cli.openai.asked import Asked, Bounds, Served
from illava_cli.openai.fields import check_json, flag, given, integer, refused, text
from illava_cli.openai.messages import Conversation

TOKENS = ("max_completion_tokens", "max_tokens")  # the longest answer; the first is stronger
OWN = ("model", "messages", "n", "logprobs", "top_logprobs", "response_format", "stream", "stream_options")
IGNORED = (*of.IGNORED, "prediction", "reasoning_effort", "verbosity")
NEUTRAL = of.NEUTRAL | {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "echo": (False,),
    "best_of": (1,),
}
KNOWN = (*OWN, *TOKENS, *of.DECODING, *of.OURS, *of.BESIDE)


def read_chat(body: dict[str, Any], bounds: Bounds = Bounds()) -> Asked:
    """What the body of a request asks.

    Where all images are wanted in low detail, each is one tile. A field that is null was left out.

    Raises:
        RequestError: what is no request, or asks for what is not done here; names the place.
    """
    check_json(body, halves=bounds.paths)
    fields = given(body, "", KNOWN, (*NEUTRAL, *IGNORED))
    of.refuse_others(fields, NEUTRAL)
    settings = of.decoding(fields, TOKENS, bounds) | of.ours(fields, bounds)
    settings |= _logprobs(fields)
    if "response_format" in fields:
        settings |= of.schema_of(fields["response_format"], "response_format", inner="json_schema")
    if "messages" not in fields:
        refused("messages", "is missing: give a list of messages")
    return of.asked(
        Conversation(fields["messages"], "messages", bounds),
        settings,
        bounds,
        n=integer(fields.get("n", 1), "n", 1, bounds.max_n),
        stream=flag(fields.get("stream", False), "stream"),
        include_usage=_include_usage(fields),
        merge_map=flag(fields.get("merge_map", False), "merge_map"),
        model=text(fields.get("model", ""), "model"),
    )


def _logprobs(fields: Mapping[str, Any]) -> dict[str, int]:
    top = integer(fields.get("top_logprobs", 0), "top_logprobs", 0, 20)
    if flag(fields.get("logprobs", False), "logprobs"):
        return {"logprobs": top}
    if "top_logprobs" in fields and top:
        refused("top_logprobs", "needs logprobs to be true")
    return {}


def _include_usage(fields: Mapping[str, Any]) -> bool:
    at, each = "stream_options", "continuous_usage_stats"
    options = given(fields.get(at, {}), at, ("include_usage", "include_obfuscation", each))
    if flag(options.get(each, False), f"{at}.{each}"):
        refused(f"{at}.{each}", "is not supported: leave it out")
    return flag(options.get("include_usage", False), f"{at}.include_usage")


# --- the answer ---------------------------------------------------------------------------------------


def completion(answers: Sequence[Generation], served: Served) -> dict[str, Any]:
    """The body of an answer, or of several to one question."""
    return completion_of([answer.record() for answer in answers], served)


def completion_of(records: Sequence[Mapping[str, Any]], served: Served) -> dict[str, Any]:
    """`completion` of the records of answers."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": record["text"], "refusal": None},
            "logprobs": _told(record.get("logprobs")),
            "finish_reason": finish_reason(record),
        }
        for index, record in enumerate(records)
    ]
    head = _head(served, "chat.completion")
    return head | {"choices": choices, "usage": usage(records), "illava": about(records, served)}


class ChatEvents:
    """The chunks of an answer that is streamed.

    Each choice has a `begin`, pieces and an `end`; after the last of them comes `usage`, where it is wanted,
    and `events.DONE`.
    """

    def __init__(self, served: Served, asked: Asked):
        self.served, self.asked = served, asked

    def begin(self, index: int) -> dict[str, Any]:
        """The first chunk of a choice."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def piece(
        self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        """A piece of a choice's text.

        Args:
            logprobs: of the tokens that came since the last piece, as in `Generation.logprobs`.
        """
        return self._chunk(index, {"content": text}, logprobs)

    def end(self, index: int, generation: Generation) -> dict[str, Any]:
        """The last chunk of a choice; it says what `usage` would, where that is not wanted."""
        record = generation.record()
        chunk = self._chunk(index, {}, reason=finish_reason(record))
        return chunk if self.asked.include_usage else chunk | {"illava": about([record], self.served)}

    def usage(self, generations: Sequence[Generation]) -> dict[str, Any]:
        """The last chunk of all; it has no choices."""
        records = [generation.record() for generation in generations]
        chunk = _head(self.served, "chat.completion.chunk") | {"choices": []}
        return chunk | {"usage": usage(records), "illava": about(records, self.served)}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: Sequence[Mapping[str, Any]] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": _told(logprobs), "finish_reason": reason}
        chunk = _head(self.served, "chat.completion.chunk") | {"choices": [choice]}
        return chunk | {"usage": None} if self.asked.include_usage else chunk


def _head(served: Served, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{served.id}",
        "object": kind,
        "created": served.created,
        "model": served.model,
        "system_fingerprint": served.system_fingerprint or None,
    }


def _told(logprobs: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    return None if logprobs is None else {"content": token_logprobs(logprobs), "refusal": None}
