"""What a line of a file of questions says: one of a batch's manifest, or of an evaluation's task file.

Imports no torch. All errors are `UsageError`s that begin with `where`, the file and the line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from illava_cli.errors import UsageError
from illava_cli.text import near_miss


def json_object(line: str, where: str, holding: str) -> dict[str, Any]:
    """A line of JSON; `holding` says what its object should have."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "nested too deeply"
        raise UsageError(f"{where}: not valid JSON ({reason})") from None
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected an object with {holding}")
    return data


def refuse_unknown(data: dict[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse fields that are none of `known`, with the near miss."""
    for name in data:
        if name not in known:
            hint = near_miss(name, list(known))
            raise UsageError(f"{where}: unknown field {name!r}{hint} (there are: {', '.join(known)})")


def text_field(data: dict[str, Any], name: str, where: str) -> str | None:
    """A text, or a number in its place: ids and counts are often written so."""
    value = data.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise UsageError(f"{where}: {name} must be a text, not {json.dumps(value)[:40]}")


def media_field(data: dict[str, Any], kind: str, where: str) -> tuple[str, ...]:
    """The paths or URLs under `image` or `images`, `video` or `videos`: one, or a list."""
    one, many = data.get(kind), data.get(f"{kind}s")
    if one is not None and many is not None:
        raise UsageError(f"{where}: give {kind} or {kind}s, not both")
    values = many if many is not None else [] if one is None else one
    values = values if isinstance(values, list) else [values]
    for value in values:
        if not isinstance(value, str) or not value:
            raise UsageError(f"{where}: {kind} must be a path or URL, or a list of them")
    return tuple(values)
