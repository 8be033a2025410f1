"""What a batch says of itself while it runs."""

import io
import sys

import pytest

from illava_cli.cli import progress as module
from illava_cli.cli.messages import Messages
from illava_cli.cli.progress import Tally, progress

STAGES = {"patches": 720, "vision_kept": 360, "llm_in": 320, "llm_kept": 160}
ANSWER = {"status": "ok", "usage": {"visual": STAGES}}
FAILURE = {"status": "error", "usage": {"visual": dict.fromkeys(STAGES, 0)}}


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_tally(clock):
    tally = Tally(10)
    assert (tally.saved, tally.errors, tally.left) == ("", "", "0:00")
    clock.now = 2.0
    tally.add(ANSWER)
    tally.add(FAILURE)
    # half of the tower's tokens left, and half of the decoder's
    assert tally.line() == "2 of 10 | 1/s | 0:08 left | 75% of visual tokens saved | 1 error"
    clock.now = 2000.0
    assert tally.left == "2:13:20"


def test_off_a_terminal_a_line_now_and_then(clock, capsys):
    with progress(100, Messages()) as tally:
        for number in range(100):
            clock.now = number * 1.0
            tally.add(ANSWER)
    said = capsys.readouterr().err.splitlines()
    assert 8 <= len(said) <= 10
    assert said[0].startswith("illava: 10 of 100 | 1.11/s | 1:21 left")
    clock.now = 1000.0
    with progress(1000, Messages()) as tally:
        for number in range(99):
            clock.now = 1000 + number * 1.0
            tally.add(ANSWER)
    assert len(capsys.readouterr().err.splitlines()) == 3  # every half minute
    with progress(10, Messages()) as tally:
        for _ in range(10):
            tally.add(ANSWER)
    assert capsys.readouterr().err == ""  # it is over at once


def test_quiet_says_nothing(clock, capsys):
    with progress(2, Messages(quiet=True)) as tally:
        clock.now = 100.0
        tally.add(ANSWER)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress(2, Messages()) as tally:
        tally.add(ANSWER)
    assert "1 of 2" in screen.getvalue()
    assert "75% of visual tokens saved" in screen.getvalue()
    before = screen.getvalue()
    with progress(1, Messages(), bar=False) as tally:
        tally.add(ANSWER)
    assert screen.getvalue() == before
