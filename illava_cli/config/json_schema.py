"""A JSON schema as a setting: one value, kept as the text of its JSON.

As a text it is replaced whole where a stronger source names another, and keeps the order of its properties,
which is that of the answers'. Whether a grammar can be made of it is told where it is read, if the library
that makes them is there; a server elsewhere has its own.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from illava_cli.errors import UsageError
from illava_cli.text import decoded, one_line

INSTALL = "a JSON schema needs llguidance: pip install 'illava[structured]'"
# blanks as Python's `json` writes them, or none: more would be a way to say nothing without an end
FORM = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
SHOWN = 200  # characters of what is wrong
KEPT = 256  # schemas whose check is remembered


def schema_text(value: Any) -> Any:
    """A mapping, or the JSON of one, as the text that is kept.

    Raises:
        ValueError: it is none, or no grammar can be made of it.
    """
    if value is None:
        return None
    try:
        schema = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("is not valid JSON") from None
    if not isinstance(schema, dict):
        raise ValueError("expected a JSON schema, which is a mapping")
    try:
        text = json.dumps(schema, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"is no JSON schema ({one_line(error)[:SHOWN]})") from None
    if is_installed() and (wrong := refusal(text)):
        raise ValueError(wrong)
    return text


def read_schema(path: Path) -> str:
    """The text of a schema in a file.

    Raises:
        UsageError: it cannot be read, is no schema, or no grammar can be made of it.
    """
    try:
        text = decoded(path.read_bytes(), f"--schema {path}")
    except OSError as error:
        raise UsageError(f"--schema {path}: cannot be read ({error.strerror or error})") from None
    try:
        return schema_text(json.loads(text))
    except json.JSONDecodeError as error:
        raise UsageError(f"--schema {path}, line {error.lineno}: is not valid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema {path}: {one_line(error)}") from None


def is_installed() -> bool:
    """Whether the library is there that makes grammars."""
    return find_spec("llguidance") is not None


def grammar_of(schema: str) -> str:
    """The grammar of a schema's answers, as llguidance writes it; nothing is checked yet."""
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(schema, overrides=FORM)


@lru_cache(KEPT)
def refusal(schema: str) -> str:
    """Why no grammar can be made of a schema; empty where one can."""
    from llguidance import LLMatcher

    wrong = one_line(LLMatcher.validate_grammar(grammar_of(schema)))
    if not wrong:
        return ""
    wrong = wrong.replace("Unimplemented keys:", "these keywords are not supported:")
    return f"cannot be followed: {wrong[0].lower()}{wrong[1:SHOWN]}"
