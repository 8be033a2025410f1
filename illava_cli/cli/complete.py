"""What Tab offers in a chat: commands, paths, settings. Pure functions, for any line editor."""

from __future__ import annotations

import os
from collections.abc import Iterable

PATH_COMMANDS = ("/image", "/video", "/save")
WITH_ARGUMENT = (*PATH_COMMANDS, "/system", "/set", "/merge")


def completions(line: str, commands: Iterable[str], settings: Iterable[str]) -> tuple[int, list[str]]:
    """Where the word to be completed starts in `line` (the text before the cursor), and its completions."""
    command, space, rest = line.partition(" ")
    if not command.startswith("/"):
        return len(line), []
    if not space:
        found = [name for name in commands if name.startswith(command)]
        return 0, [name + " " if name in WITH_ARGUMENT else name for name in found]
    if command in PATH_COMMANDS:
        start, typed, quote = last_word(rest)
        return len(command) + 1 + start, path_completions(typed, quote)
    start = len(line) - len(rest.lstrip())
    word = line[start:]
    if command == "/set":
        return start, [f"{key}=" for key in settings if key.startswith(word)]
    if command == "/merge":
        return start, [state for state in ("on", "off") if state.startswith(word)]
    return len(line), []


def last_word(text: str) -> tuple[int, str, str]:
    """(start, unquoted text, open quote) of the word at the end of `text`, quoted as in a shell."""
    start, word, quote, escaped = 0, "", "", False
    for i, char in enumerate(text):
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote = char
        elif char.isspace():
            start, word = i + 1, ""
        else:
            word += char
    return start, word, quote


def path_completions(typed: str, quote: str = "") -> list[str]:
    """Files and folders that begin with `typed`, quoted where a shell would need it."""
    folder, name = os.path.split(typed)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name.startswith(name))
    except OSError:
        return []
    hidden = name.startswith(".")
    return [
        _quoted(os.path.join(folder, entry), is_dir, quote)
        for entry, is_dir in found
        if hidden or not entry.startswith(".")
    ]


def _quoted(path: str, is_dir: bool, quote: str) -> str:
    """`path` as one word; a folder's quote stays open, so that typing can go on inside it."""
    if is_dir:
        path += "/"
    if not quote and not any(char.isspace() or char in "'\"\\" for char in path):
        return path
    if "'" in path or quote == '"':
        opening, path = '"', path.replace("\\", "\\\\").replace('"', '\\"')
    else:
        opening = "'"
    return opening + path + ("" if is_dir else opening)
