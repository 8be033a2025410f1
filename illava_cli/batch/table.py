"""Tables of CSV as spreadsheets write them: with semicolons or tabs, `sep=;`, and columns of nothing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from illava_cli.errors import UsageError

SEPARATORS = (",", ";", "\t")  # Excel's, by country; tabs in its "Unicode text"
HEADER = 2**16  # characters in which the first row ends
SAID = re.compile(r'"?sep=(.)"?[,;\t]*(\r\n|\n|\r|$)', re.IGNORECASE)  # a first line that Excel reads


def rows(
    text: str, where: str, known: Sequence[str], *, tabs: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows below the first, by its names, with the lines on which they end; empty cells are absent.

    Names are taken in lower case, without blanks around them and with `_` for blanks within.

    Args:
        known: names that may stand in the first row; they tell what separates it.
        tabs: nothing else says otherwise.

    Raises:
        UsageError: no CSV; says the line, after `where`.
    """
    skipped, separator = 0, None
    if said := SAID.match(text):
        text, skipped, separator = text[said.end() :], 1, said.group(1)
    # a cell may hold a picture, as a data URL
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    separator = separator or _separator(text, known, "\t" if tabs else ",")
    # lines end where CSV ends them, not at a form feed or U+2028 in a prompt
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    header: list[str] | None = None
    try:
        for row in reader:
            # a quoted cell may hold line breaks: where the row ends is what can be told
            number = reader.line_num + skipped
            while row and not row[-1].strip():
                row.pop()
            if not row:
                continue
            if header is None:
                header = _names(row)
                if len(set(header) - {""}) < len(list(filter(None, header))):
                    raise UsageError(f"{where}, line {number}: two columns have the same name")
                continue
            if len(row) > len(header):
                raise UsageError(
                    f"{where}, line {number}: {len(row)} cells for {len(header)} columns: "
                    f"quote cells that hold {_called(separator)}"
                )
            cells = {name: cell for name, cell in zip(header, row, strict=False) if cell.strip()}
            if "" in cells:
                raise UsageError(f"{where}, line {number}: {cells['']!r} is in a column without a name")
            yield number, cells
    except csv.Error as error:
        raise UsageError(f"{where}, line {reader.line_num + skipped}: not valid CSV ({error})") from None


def _names(row: Sequence[str]) -> list[str]:
    return ["_".join(name.lower().split()) for name in row]


def _separator(text: str, known: Sequence[str], usual: str) -> str:
    """What separates most known names in the first row; `usual` where that tells nothing."""

    def found(separator: str) -> int:
        try:
            first = next(csv.reader(io.StringIO(text[:HEADER], newline=""), delimiter=separator), [])
        except csv.Error:
            return 0
        return sum(name in known for name in _names(first))

    return max((usual, *SEPARATORS), key=found)


def _called(separator: str) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs"}.get(separator, repr(separator))
