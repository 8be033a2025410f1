"""A request's body: that it is JSON, and what its fields hold. Each refusal names the place in the body."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from illava_cli.openai.errors import RequestError
from illava_cli.text import near_miss, spelled

DEEPEST = 100  # lists and objects in one another; a schema of ten levels takes some forty
LARGEST = 2**64  # no number here means more
SHOWN = 60  # characters of a place, each of whose names may be any text


def refused(at: str, why: str, code: str | None = None) -> NoReturn:
    """Refuse a request for what stands at a place in it."""
    raise RequestError(f"{at}: {why}", at, code)


def read_body(data: bytes | str) -> dict[str, Any]:
    """The JSON object of a request's bytes; what is in it is not looked at yet.

    Raises:
        RequestError: it is none.
    """
    try:
        body = json.loads(data, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error.msg}, at character {error.pos}") from None
    except UnicodeDecodeError:
        raise RequestError("the body is not valid JSON: it is not UTF-8 text") from None
    except RecursionError:
        raise RequestError("the body is not valid JSON: nested too deeply") from None
    except ValueError as error:  # a constant that is none of JSON's, or a number of thousands of digits
        raise RequestError(f"the body is not valid JSON: {str(error).partition(';')[0]}") from None
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def check_json(body: Any, halves: bool = False) -> None:
    """Refuse what is no JSON object, or holds what no model and no tokenizer takes.

    That is half a character, NaN and infinity, huge numbers, and nesting without an end.

    Args:
        halves: let halves of characters pass, which the name of a file may have.
    """
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    todo: list[tuple[Any, tuple | None, int]] = [(body, None, 0)]
    while todo:  # no recursion: how deep it goes is not known yet
        value, place, depth = todo.pop()
        if depth > DEEPEST:
            refused(_written(place), f"nested too deeply: at most {DEEPEST} levels")
        if isinstance(value, dict):
            for name, item in value.items():
                if not isinstance(name, str) or not _is_whole(name):
                    refused(_written((place, name)), "its name is no text that can be encoded")
                todo.append((item, (place, name), depth + 1))
        elif isinstance(value, list):
            todo += [(item, (place, index), depth + 1) for index, item in enumerate(value)]
        elif isinstance(value, str):
            if not halves and not _is_whole(value):
                refused(_written(place), "holds half a character (a lone surrogate)")
        elif isinstance(value, bool) or value is None:
            pass
        elif not isinstance(value, int | float):
            refused(_written(place), f"is no value of JSON's but of {type(value).__name__}")
        elif not math.isfinite(value) if isinstance(value, float) else abs(value) > LARGEST:
            refused(_written(place), "is no number that can be used")


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(place: tuple | None) -> str:
    """A place, which is its parent and a name or an index, as `messages[2].role`."""
    parts: list[str] = []
    while place is not None:
        place, name = place
        parts.append(f"[{name}]" if isinstance(name, int) else f".{spelled(str(name))}")
    whole = "".join(reversed(parts)).removeprefix(".")
    return whole if len(whole) <= SHOWN else f"{whole[:SHOWN]}..."


# --- fields -------------------------------------------------------------------------------------------


def join(at: str, name: str) -> str:
    """The place of a field of what is at `at`."""
    return f"{at}.{name}" if at else name


def given(value: Any, at: str, known: Iterable[str], passed: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of an object; null means that it was left out.

    Args:
        known: those that there are.
        passed: those that may be there as well, but that nobody is told of.

    Raises:
        RequestError: it is no object, or has a field that there is none of; names the near miss.
    """
    if not isinstance(value, dict):
        refused(at, f"must be an object, not {kind(value)}")
    fields = {name: item for name, item in value.items() if item is not None}
    known, passed = list(known), set(passed)
    for name in fields:
        if name not in known and name not in passed:
            place = join(at, name if len(name) <= SHOWN else f"{name[:SHOWN]}...")
            refused(place, f"unknown field{near_miss(name[:SHOWN], known)}")
    return fields


def kind(value: Any) -> str:
    """What a value is, in words: what it holds is nobody else's affair."""
    if isinstance(value, bool):
        return str(value).lower()
    names = {str: "a text", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")


def text(value: Any, at: str) -> str:
    """A text."""
    return value if isinstance(value, str) else refused(at, f"must be a text, not {kind(value)}")


def flag(value: Any, at: str) -> bool:
    """True or false."""
    return value if isinstance(value, bool) else refused(at, f"must be true or false, not {kind(value)}")


def number(value: Any, at: str) -> int | float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refused(at, f"must be a number, not {kind(value)}")
    return value


def integer(value: Any, at: str, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least `least`, and at most `most`."""
    if not float(number(value, at)).is_integer():
        refused(at, "must be a whole number")
    if value < least or value > (LARGEST if most is None else most):
        refused(at, f"must be {least} or more" if most is None else f"must be from {least} to {most}")
    return int(value)


def one_of(value: Any, at: str, choices: Iterable[str]) -> str:
    """One of a few words."""
    choices = list(choices)
    if text(value, at) not in choices:
        refused(at, f"must be one of {', '.join(choices)}{near_miss(value[:SHOWN], choices)}")
    return value
