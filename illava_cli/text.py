"""Text that comes in and text that goes out, by one rule at every door. Imports nothing heavy.

What comes in (files, pipes, lists of names) is UTF-8, with a byte order mark or without, or UTF-16 or UTF-32
as spreadsheets and PowerShell write them; a line ends with LF, CR LF or CR. What goes out can be read by
whoever reads text: half a character, which a JSON escape or a file's name may hold, is spelled out.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from illava_cli.errors import UsageError

WIDE_MARKS = (BOM_UTF32_LE, BOM_UTF32_BE, BOM_UTF16_LE, BOM_UTF16_BE)
LINE_END = re.compile(r"\r\n|\n|\r")  # not U+2028 and the like, which stand within lines
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
# in JSON: halves of characters, where readers stop, and what ends a line or acts on a terminal
AWKWARD = re.compile("[\ud800-\udfff\x7f-\x9f\u2028\u2029]")


def decoded(data: bytes, where: str) -> str:
    """The text of a file, without its byte order mark.

    Raises:
        UsageError: it is no text, or holds a NUL; says the line, after `where`.
    """
    encoding = _wide_encoding(data) or "utf-8"
    data = data.removeprefix(BOM_UTF8)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        number = _line(data[: error.start].decode(encoding, errors="ignore"))
        raise UsageError(f"{where}, line {number}: not UTF-8 text") from None
    if "\0" in text:
        number = _line(text[: text.index("\0")])
        raise UsageError(f"{where}, line {number}: holds a NUL byte, as no text does")
    return text


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32, by a mark or, as JSON's readers tell them, by the NULs of a first letter."""
    encoding = json.detect_encoding(data[:4])
    return encoding if encoding.startswith(("utf-16", "utf-32")) else None


def _line(before: str) -> int:
    return len(LINE_END.findall(before)) + 1


def lines(text: str) -> list[str]:
    """The lines of a text without their ends, and without the marks of files that were joined."""
    found = LINE_END.split(text)
    return [line.removeprefix("\ufeff") for line in (found if found[-1] else found[:-1])]


def unix(text: str) -> str:
    """`text` with LF at the ends of its lines."""
    return LINE_END.sub("\n", text)


def piped_lines(pipe: BinaryIO) -> Iterator[str]:
    """The lines of a pipe, each as soon as it is there.

    Bytes that are no UTF-8 come as lone surrogates, as in `sys.argv`: a file may be called so.

    Raises:
        UsageError: a pipe of UTF-16 or UTF-32 that is none.
    """
    first = pipe.readline()
    if _wide_encoding(first):
        yield from lines(decoded(first + pipe.read(), "stdin"))
        return
    for line in chain([first], iter(pipe.readline, b"")):
        yield from lines(line.decode(errors="surrogateescape"))


def listed(data: bytes, separator: bytes) -> list[str]:
    """The file names of a list, none of them empty. Bytes that are no UTF-8 are kept as in `sys.argv`.

    Args:
        separator: NUL, then all else stands for itself; or LF: then a name's line may end otherwise, too,
            and blanks around a name that names nothing are none of it.

    Raises:
        UsageError: names that end with NUL, and that was not said.
    """
    exact = separator == b"\0"
    if data.startswith(WIDE_MARKS) or (not exact and _wide_encoding(data)):
        text = data.decode(_wide_encoding(data), errors="replace")
    else:
        text = os.fsdecode(data.removeprefix(BOM_UTF8))
    if exact:
        return [name for name in text.split("\0") if name.strip()]
    if "\0" in text:
        raise UsageError("stdin: the names end with NUL: give -0 (--null)")
    return [name if os.path.lexists(name) else name.strip() for name in lines(text) if name.strip()]


def near_miss(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the closest of `known`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def one_line(text: object) -> str:
    """`text` without line breaks: messages are one line, whatever a library or a file's name says."""
    return " ".join(str(text).split())


def spelled(text: str) -> str:
    """`text` with halves of characters spelled out (`\\\\udcff`), so that it can be written."""
    return text.encode(errors="backslashreplace").decode()


def json_text(value: Any, **options: Any) -> str:
    """`value` as JSON that every reader takes; `jq` for one stops at half a character."""
    return AWKWARD.sub(_as_json, json.dumps(value, ensure_ascii=False, **options))


def _as_json(match: re.Match) -> str:
    character = match.group()
    half = "\ud800" <= character <= "\udfff"
    return ("\\\\" if half else "\\") + f"u{ord(character):04x}"


def harmless(text: str) -> str:
    """`text` for a terminal, where control characters (all but tab and newline) must not act."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", spelled(text))
