"""A task's generation options -> settings of a session's `generation` group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from illava_cli.errors import UsageError

# what the harness puts in where a task names no stop: a delimiter of examples, which nobody's numbers stop at
FILLER = ["\n\n"]
# values that change nothing; any other would need a decoding that a session does not have
NEUTRAL = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "length_penalty": 1,
    "no_repeat_ngram_size": 0,
}
SAMPLING = ("top_p", "top_k", "min_p", "seed")
READ = {"max_new_tokens", "until", "temperature", "do_sample", "repetition_penalty", *SAMPLING}
NOT_DECODING = {"image_aspect_ratio", "use_cache"}  # for the original LLaVA code; tiles are `max_tiles` here


def generation_settings(options: Mapping[str, Any], warn: Callable[[str], None]) -> dict[str, Any]:
    """The fields of `GenerationOptions` that a task's `generation_kwargs` decide; the others stay.

    Args:
        options: as in the task's YAML; None stands for not given.
        warn: told of an option that is not known here.

    Raises:
        UsageError: beams and the like, which would silently give other answers.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - READ - NOT_DECODING - NEUTRAL.keys():
        warn(f"the task's option {name}={given[name]!r} is not known here and has no effect")
    for name, neutral in NEUTRAL.items():
        if given.get(name, neutral) != neutral:
            raise UsageError(f"{name}={given[name]} is not supported: run with --gen_kwargs {name}={neutral}")
    settings: dict[str, Any] = {}
    if "max_new_tokens" in given:
        settings["max_tokens"] = given["max_new_tokens"]
    settings["stop"] = _stops(given.get("until", []))
    temperature = _temperature(given)
    if temperature is not None:
        settings["temperature"] = temperature
    if temperature:  # a greedy task may write top_p: 0, which is no probability
        settings |= {name: given[name] for name in SAMPLING if name in given}
    if "repetition_penalty" in given:
        settings["repetition_penalty"] = given["repetition_penalty"]
    return settings


def _stops(until: str | list[str]) -> list[str]:
    stops = [until] if isinstance(until, str) else list(until)
    return [] if stops == FILLER else [stop for stop in stops if stop]


def _temperature(given: Mapping[str, Any]) -> float | None:
    """0 for greedy; None where the task leaves it to the session."""
    if given.get("do_sample") is False or given.get("top_k") == 1:
        return 0.0
    return given.get("temperature", 1.0 if given.get("do_sample") else None)
