"""What the answers of both endpoints say alike: counts of tokens, log-probabilities, times and notes.

They are made of records, the JSON of a `Generation`, which a batch's journal keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from illava_cli.openai.asked import Served

Record = Mapping[str, Any]

LEAST = -9999.0  # how OpenAI writes the logarithm of nothing


def finish_reason(record: Record) -> str:
    """Why an answer ended; one that was broken off is one that is not whole."""
    return record["finish_reason"] or "length"


def counts(records: Sequence[Record]) -> tuple[int, int, int]:
    """Tokens of the prompt, of it those that were in the cache, and of the answers, to one question."""
    first = records[0]["usage"]
    cached = first.get("cached_tokens", 0)
    return cached + first["prompt_tokens"], cached, sum(r["usage"]["completion_tokens"] for r in records)


def visual_tokens(record: Record) -> dict[str, int]:
    """Visual tokens at each stage, and how many merging saved the decoder."""
    visual = dict(record["usage"]["visual"])
    if "unmerged" in visual:  # not in records of before
        visual["reused"] = record["memory"].get("media_reused", 0)
        visual["saved"] = visual["unmerged"] - visual["llm_kept"] - visual["newlines_kept"]
    return visual


def usage(records: Sequence[Record]) -> dict[str, Any]:
    """The `usage` of a chat completion; several answers share one prompt."""
    prompt, cached, completion = counts(records)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "visual_tokens": visual_tokens(records[0]),
    }


def about(records: Sequence[Record], served: Served) -> dict[str, Any]:
    """What this program says beside an answer: times in seconds, of several the longest, and notes."""
    names = records[0]["timings"]
    said = {
        "timings": {name: max(record["timings"][name] for record in records) for name in names},
        "preset": records[0]["preset"],
        "notes": list(dict.fromkeys(note for record in records for note in record.get("notes", ()))),
    }
    return said | ({"merge_map": served.merge_map} if served.merge_map else {})


def token_logprobs(tokens: Sequence[Mapping[str, Any]], unknown: list | None = None) -> list[dict[str, Any]]:
    """Log-probabilities by token, as in `Generation.logprobs`, in OpenAI's form.

    Args:
        unknown: the bytes of a token that is part of a character, which its text does not say.
    """

    def one(token: Mapping[str, Any]) -> dict[str, Any]:
        text = token["token"]
        data = unknown if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
        return {"token": text, "logprob": max(token["logprob"], LEAST), "bytes": data}

    return [one(token) | {"top_logprobs": [one(other) for other in token["top"]]} for token in tokens]
