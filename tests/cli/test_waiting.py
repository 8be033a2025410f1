"""The bar of a long clip: on a terminal only, only where there are many frames, and gone when it is done."""

from __future__ import annotations

import io
import sys

from illava_cli.cli.messages import Messages
from illava_cli.cli.waiting import MANY, waiting
from tests.cli.conftest import MODEL


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """One in the place of stderr; called in a test, as pytest has its own there until then."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_a_long_clip(monkeypatch):
    screen = terminal(monkeypatch)
    with waiting(Messages()) as progress:
        progress("read", 1, 512)
        assert "reading frames: 1 of 512" in screen.getvalue()
        progress("read", 512, 512)
        gone = screen.getvalue()
        assert gone.endswith("\x1b[2K")  # its line is empty again
        progress("encode", 0, 32)  # few segments, of many frames
        assert "through the vision tower: 0 of 32" in screen.getvalue().removeprefix(gone)
    assert screen.getvalue().endswith("\x1b[2K")
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 2  # the cursor


def test_a_short_one_shows_nothing(monkeypatch):
    screen = terminal(monkeypatch)
    with waiting(Messages()) as progress:
        for frame in range(MANY):
            progress("read", frame + 1, MANY)
        progress("encode", 0, MANY)
    assert screen.getvalue() == ""


def test_nothing_is_shown_after_the_end(monkeypatch):
    screen = terminal(monkeypatch)
    with waiting(Messages()) as progress:
        progress("read", 1, 512)
    before = screen.getvalue()
    assert before.endswith("\x1b[2K")
    progress("read", 2, 512)  # by a reading that was left behind
    assert screen.getvalue() == before


def test_nobody_is_told_where_nobody_sees_it(monkeypatch):
    terminal(monkeypatch)
    with waiting(Messages(quiet=True)) as progress:
        assert progress is None
    for stderr in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", stderr)
        with waiting(Messages()) as progress:
            assert progress is None


def test_a_run_in_a_pipe_shows_none(main, sessions):
    code, out, err = main("run", *MODEL, "-p", "long?")
    assert (code, out) == (0, "You said long?\n")
    assert "frames" not in err
    assert sessions[-1].listener is None


def test_a_run_on_a_terminal_shows_one(main, monkeypatch):
    screen = terminal(monkeypatch)
    code, out, _ = main("run", *MODEL, "-p", "long?")
    assert (code, out) == (0, "You said long?\n")
    shown = screen.getvalue()
    assert "reading frames: 1 of 512" in shown
    assert shown.index("reading frames") < shown.index("visual tokens")


def test_a_chat_shows_none(main, sessions, monkeypatch):
    screen = terminal(monkeypatch)
    main("chat", *MODEL, stdin="long?\n")
    assert "reading frames" not in screen.getvalue()
    assert sessions[-1].listener is None
