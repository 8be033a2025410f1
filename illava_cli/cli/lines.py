"""Where a chat's lines come from: a pipe, a terminal with prompt_toolkit, or one with readline only.

Each is a function that returns the next line and raises EOFError at the end. At a terminal
KeyboardInterrupt means Ctrl-C on an empty line: with text on it, Ctrl-C only clears it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from illava_cli.cli.complete import completions
from illava_cli.errors import UsageError
from illava_cli.text import piped_lines

PROMPT = "> "
ReadLine = Callable[[], str]


def is_interactive() -> bool:
    """Someone is typing: stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def reader(commands: list[str], settings: list[str]) -> ReadLine:
    """The best source of lines for this stdin."""
    if not is_interactive():
        return _piped()

    def complete(line: str) -> tuple[int, list[str]]:
        return completions(line, commands, settings)

    if find_spec("prompt_toolkit") is not None and sys.stderr is not None and sys.stderr.isatty():
        return _prompt_toolkit(complete)
    return _readline(complete)


def history_file(name: str) -> Path | None:
    """A file in the user's state folder, made now and private; None where that cannot be."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = Path(state) / "illava" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        return None
    return path


def _piped() -> ReadLine:
    found = enumerate(piped_lines(sys.stdin.buffer) if sys.stdin is not None else (), 1)

    def read() -> str:
        number, line = next(found, (0, None))
        if line is None:
            raise EOFError
        if "\0" in line:
            raise UsageError(f"stdin, line {number}: holds a NUL byte, as no text does")
        return line

    return read


def _prompt_toolkit(complete: Callable[[str], tuple[int, list[str]]]) -> ReadLine:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import create_output

    class ChatCompleter(Completer):
        def get_completions(self, document, complete_event):
            before = document.text_before_cursor
            start, found = complete(before)
            for text in found:
                yield Completion(text, start_position=start - len(before))

    keys = KeyBindings()

    @keys.add("c-c")
    def _(event) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    history = history_file("history")
    session = PromptSession(
        history=FileHistory(str(history)) if history else InMemoryHistory(),
        completer=ChatCompleter(),
        complete_while_typing=False,
        key_bindings=keys,
        # stdout carries answers only, even while someone types at the terminal
        output=create_output(stdout=sys.stderr),
    )
    return lambda: session.prompt(PROMPT)


def _readline(complete: Callable[[str], tuple[int, list[str]]]) -> ReadLine:
    try:
        import readline
    except ImportError:  # Windows
        readline = None
    if readline is not None:
        _set_up(readline, complete)
    sys.stdin.reconfigure(errors="surrogateescape")  # as piped lines come

    def read() -> str:
        if sys.stdout is not None and sys.stdout.isatty():
            return input(PROMPT)
        # input() would write its prompt to stdout, which carries answers only
        print(PROMPT, end="", file=sys.stderr, flush=True)
        return input()

    return read


def _set_up(readline, complete: Callable[[str], tuple[int, list[str]]]) -> None:
    import atexit

    def completer(text: str, state: int) -> str | None:
        start, found = complete(text)
        return text[:start] + found[state] if state < len(found) else None

    readline.set_completer_delims("")  # the word is the whole line: `completions` finds its parts
    readline.set_completer(completer)
    readline.parse_and_bind("tab: complete")
    if (history := history_file("readline_history")) is not None:
        readline.read_history_file(history)
        atexit.register(readline.write_history_file, history)
