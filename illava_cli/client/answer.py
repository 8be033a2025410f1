"""What comes of a server's answer: the same record as of one that was given here, as far as it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from illava_cli.client.settings import Remote
from illava_cli.engine.record import Generation, MediaRecord, Timings, Usage, VisualUsage
from illava_cli.media import name_of


def generation_of(
    answer: dict[str, Any],
    config: Remote,
    images: Sequence[Any] = (),
    videos: Sequence[Any] = (),
    *,
    seconds: float = 0.0,
    id: str = "",
) -> Generation:
    """An answer that has the form of a chat completion; its media's sizes are not known here.

    Args:
        seconds: from the request to the answer, which is the time where the server says none.

    Raises:
        ValueError: it has another form.
    """
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError("has no choices with a message") from None
    if text is None:
        text = choice["message"].get("refusal") or ""
    if not isinstance(text, str) or not isinstance(reason, str | None):
        raise ValueError("has no text")
    own = _mapping(answer, "illava")
    media = [*((m, "image") for m in images), *((m, "video") for m in videos)]
    preset = config.preset or own.get("preset")
    return Generation(
        text=text,
        finish_reason=reason,
        model=str(config.model.id),
        preset=preset if isinstance(preset, str) else "",
        seed=config.generation.seed,
        config_hash=config.hash(),
        media=tuple(MediaRecord(name_of(source), kind, 0, 0) for source, kind in media),
        usage=_usage(_mapping(answer, "usage")),
        timings=_timings(_mapping(own, "timings"), seconds),
        id=id,
        logprobs=_logprobs(choice) if config.generation.logprobs is not None else None,
        notes=tuple(note for note in _list(own, "notes") if isinstance(note, str)),
    )


def _usage(usage: dict[str, Any]) -> Usage:
    visual = _mapping(usage, "visual_tokens")
    cached = _count(_mapping(usage, "prompt_tokens_details"), "cached_tokens")
    return Usage(
        prompt_tokens=max(0, _count(usage, "prompt_tokens") - cached),  # theirs has the cached ones in it
        completion_tokens=_count(usage, "completion_tokens"),
        visual=VisualUsage(**{field.name: _count(visual, field.name) for field in fields(VisualUsage)}),
        cached_tokens=cached,
    )


def _timings(said: dict[str, Any], seconds: float) -> Timings:
    known = {
        field.name: float(said[field.name])
        for field in fields(Timings)
        if isinstance(said.get(field.name), int | float)
    }
    return Timings(**known) if known else Timings(decode_s=seconds)


def _logprobs(choice: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    tokens = [one for one in _list(_mapping(choice, "logprobs"), "content") if isinstance(one, dict)]
    return tuple(
        _token(one) | {"top": [_token(top) for top in _list(one, "top_logprobs") if isinstance(top, dict)]}
        for one in tokens
    )


def _token(said: dict[str, Any]) -> dict[str, Any]:
    return {"token": said.get("token"), "logprob": said.get("logprob")}


def _mapping(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _list(data: dict[str, Any], name: str) -> list[Any]:
    found = data.get(name)
    return found if isinstance(found, list) else []


def _count(data: dict[str, Any], name: str) -> int:
    found = data.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0
