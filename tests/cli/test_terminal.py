"""The chat at a real (pseudo) terminal, in each way that it reads lines: Ctrl-C, history, Tab, stdout."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import FAKE, MODEL, ROOT
from tests.needs import require
from tests.processes import Process

pty = pytest.importorskip("pty", reason="needs pseudo-terminals: this system has none")

CTRL_C, CTRL_D = b"\x03", b"\x04"
# prompt_toolkit draws a line again whenever it changes; bracketed paste goes on when it starts to read
PROMPT = {"prompt_toolkit": rb"\x1b\[\?2004h[^>]*>", "readline": rb"(?<!-)> ", "input": rb"(?<!-)> "}

# makes `find_spec("prompt_toolkit")` find nothing, for the plain line editor
WITHOUT_TOOLKIT = (
    "import importlib.util, runpy, sys; find = importlib.util.find_spec; "
    "importlib.util.find_spec = lambda name, *rest: None if name == 'prompt_toolkit' else find(name, *rest); "
    "runpy.run_module('tests.cli.fakes', run_name='__main__', alter_sys=True)"
)


class Terminal:
    """A chat with its stdin and stderr on a terminal, and stdout there too or on a pipe."""

    def __init__(self, reader: str):
        self.prompt = PROMPT[reader]
        command = FAKE if reader == "prompt_toolkit" else [sys.executable, "-c", WITHOUT_TOOLKIT]
        # Python's input() edits lines with readline only where stdout is the terminal as well
        stdout_too = reader == "readline"
        self.master, slave = pty.openpty()
        self.process = Process(
            [*command, "chat", *MODEL],
            stdin=slave,
            stderr=slave,
            stdout=slave if stdout_too else subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            preexec_fn=lambda: os.close(os.open(os.ttyname(slave), os.O_RDWR)),
        )
        os.close(slave)
        self.seen = b""

    def wait_for(self, pattern: bytes) -> None:
        """Reads the terminal until `pattern` has come since the last call."""
        deadline = time.monotonic() + 120
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern} did not come after {self.seen!r}"
            self.seen += os.read(self.master, 4096)
        self.seen = self.seen[found.end() :]

    def wait_for_prompt(self) -> None:
        """Reads the terminal until the chat takes a line: what is typed before may be lost."""
        self.wait_for(self.prompt)

    def wait_until_it_waits(self) -> None:
        """Until it sleeps: a signal just before Python waits for the next key is seen only with that key."""
        state = Path(f"/proc/{self.process.pid}/stat")
        if not state.exists():
            time.sleep(0.3)
            return
        while state.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.001)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> tuple[int, str]:
        """Exit code and what the pipe got, once the program has ended."""
        out, _ = self.process.communicate()
        os.close(self.master)
        return self.process.returncode, (out or b"").decode()


@pytest.fixture
def start(request):
    """Starts a chat that reads its lines with `prompt_toolkit`, with `readline`, or with `input` alone."""
    started: list[Terminal] = []

    def start(reader: str) -> Terminal:
        if reader == "prompt_toolkit":
            require("prompt_toolkit")
        started.append(Terminal(reader))
        started[0].wait_for_prompt()
        return started[0]

    yield start
    for terminal in started:
        terminal.process.end()


@pytest.mark.parametrize("reader", ["prompt_toolkit", "input"])
def test_answers_go_to_stdout_and_nothing_else(start, reader):
    terminal = start(reader)
    terminal.type(b"hello\r")
    terminal.wait_for_prompt()
    terminal.type(b"/stats\r")
    terminal.wait_for(b"253 kept")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.end() == (0, "You said hello\n")


@pytest.mark.parametrize("reader", ["prompt_toolkit", "input"])
def test_ctrl_c_stops_the_answer_and_not_the_program(start, reader):
    terminal = start(reader)
    terminal.type(b"slow please\r")
    assert terminal.process.stdout.read(5) == b"word "
    terminal.type(CTRL_C)
    terminal.wait_for(rb"\(stopped\)")
    terminal.wait_for_prompt()
    terminal.type(b"hello\r")
    terminal.wait_for_prompt()
    terminal.type(b"/exit\r")
    code, out = terminal.end()
    assert code == 0
    assert out.endswith("\nYou said hello\n")


@pytest.mark.parametrize("reader", ["prompt_toolkit", "readline", "input"])
def test_ctrl_c_at_the_prompt(start, reader):
    terminal = start(reader)
    terminal.type(b"half a line")
    terminal.wait_for(b"line")
    terminal.wait_until_it_waits()
    terminal.type(CTRL_C)
    if reader != "prompt_toolkit":  # which clears the line in place
        terminal.wait_for_prompt()
    terminal.type(b"/nothing\r")
    terminal.wait_for(b"unknown command /nothing ")
    terminal.wait_for_prompt()
    terminal.wait_until_it_waits()
    terminal.type(CTRL_C)
    terminal.wait_for(b"Ctrl-C again")
    terminal.wait_for_prompt()
    terminal.wait_until_it_waits()
    terminal.type(CTRL_C)
    assert terminal.end()[0] == 0


@pytest.mark.parametrize("reader", ["prompt_toolkit", "readline"])
def test_history_is_kept_and_private(start, reader, tmp_path):
    terminal = start(reader)
    terminal.type(b"remember me\r")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.end()[0] == 0
    (history,) = (tmp_path / "state" / "illava").iterdir()
    assert "remember me" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("reader", ["prompt_toolkit", "readline"])
def test_tab_completes(start, reader, picture, monkeypatch):
    monkeypatch.setenv("HOME", os.path.dirname(picture))
    terminal = start(reader)
    terminal.type(b"/image ~/my\t")
    terminal.wait_for(rb"my picture\.png'")
    terminal.type(b"\r")
    terminal.wait_for(b"attached to the next question")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.end()[0] == 0
