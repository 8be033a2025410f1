"""The first Ctrl-C ends the reading of media: of a question, of one that is compared, in a chat."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from illava_cli import interrupts
from illava_cli.cli import chat
from illava_cli.cli.messages import Messages
from illava_cli.cli.question import Question, ask, ask_both
from illava_cli.cli.repl import Repl
from illava_cli.errors import Cancelled
from tests.conftest import picture
from tests.media.server import serving
from tests.processes import run


@pytest.fixture
def drip(monkeypatch):
    """The address of a download that never ends; at its first byte comes a Ctrl-C."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    with serving() as site:
        url, sent = site.drips("/a.png")
        over = threading.Event()

        def interrupt_once() -> None:
            sent.wait()
            if not over.is_set():  # a test that failed before its download must not end the others
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt_once)
        thread.start()
        yield url
        over.set()
        sent.set()
        thread.join()
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def session(open_session):
    return open_session("llava_onevision", "generation.max_tokens=2", "media.media_timeout=null")


def test_a_question(session, drip):
    with pytest.raises(KeyboardInterrupt):
        ask(session, Question("What?", [drip], []))


def test_a_question_whose_words_are_shown(session, drip):
    said = []
    with pytest.raises(KeyboardInterrupt):
        ask(session, Question("What?", [], [drip]), said.append)
    assert said == []


def test_a_question_that_is_compared(session, drip):
    with pytest.raises(KeyboardInterrupt):
        ask_both(session, Question("What?", [drip], []))


def test_media_that_are_held(drip):
    with pytest.raises(KeyboardInterrupt):
        Question("What?", [drip], []).held(None)


def test_a_batch_of_the_library(session, drip):
    with pytest.raises(Cancelled), interrupt_event() as cancel:
        session.ask_batch([{"prompt": "What?", "images": [drip]}], cancel=cancel)


class interrupt_event:
    """An event that Ctrl-C sets, and nothing else."""

    def __enter__(self):
        cancel = threading.Event()
        self.before = signal.signal(signal.SIGINT, lambda *_: cancel.set())
        return cancel

    def __exit__(self, *error):
        signal.signal(signal.SIGINT, self.before)


def test_a_chat_goes_on_after_it(session, drip, tmp_path, capsys):
    path = tmp_path / "a.png"
    picture(40, 40).save(path)
    lines = iter([f"/image {drip}", "What?", f"/image {path}", "And this?", "/exit"])
    said = []
    conversation = Repl(session, Messages(), said.append)
    assert chat.talk(conversation, lambda: next(lines)) == 0
    err = capsys.readouterr().err
    assert "(stopped; this turn is dropped)" in err
    assert "illava: error" not in err
    assert len(conversation.answers) == 1
    assert [message["images"] for message in conversation.chat.messages] == [[str(path)], []]


def test_a_piped_chat_ends(session, drip):
    lines = iter([f"/image {drip}", "What?", "What?"])
    with pytest.raises(KeyboardInterrupt):
        chat.follow(Repl(session, Messages(), print), lambda: next(lines))


def test_sigterm_ends_the_program_unless_it_was_ignored():
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupts.end_at_sigterm()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        interrupts.end_at_sigterm()
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 143
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


PROGRAM = """
import signal, threading
from illava_cli.interrupts import Interrupts
with Interrupts() as interrupts:
    threading.Thread(target=threading.Event().wait).start()  # one that nothing stops
    signal.raise_signal(signal.{first})
    assert interrupts.stop.is_set()
    print("stopping", flush=True)
    signal.raise_signal(signal.{second})
    print("still there")
"""


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [("SIGINT", "SIGINT", 130), ("SIGINT", "SIGTERM", 130), ("SIGTERM", "SIGINT", 143)],
)
def test_the_second_signal_leaves_at_once_with_the_code_of_the_first(first, second, code):
    done = run([sys.executable, "-c", PROGRAM.format(first=first, second=second)])
    assert (done.returncode, done.stdout, done.stderr) == (code, "stopping\n", "")


@pytest.mark.parametrize(("signum", "ending"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", SystemExit)])
def test_what_was_cancelled_by_a_signal_ends_the_program(signum, ending):
    before = [signal.getsignal(one) for one in interrupts.SIGNALS]
    interrupted = interrupts.Interrupts()

    def asked():
        with interrupted:
            signal.raise_signal(getattr(signal, signum))
            raise Cancelled("a question")

    with pytest.raises(ending):
        asked()
    assert interrupted.stop.is_set()
    assert [signal.getsignal(one) for one in interrupts.SIGNALS] == before


def test_sigterm_ends_a_chat_that_ctrl_c_would_not(session, tmp_path):
    path = tmp_path / "a.png"
    picture(40, 40).save(path)
    lines = iter([f"/image {path}", "What?", "/exit"])

    said = []

    def write(text):
        if not said:
            signal.raise_signal(signal.SIGTERM)
        said.append(text)

    with pytest.raises(SystemExit):
        chat.talk(Repl(session, Messages(), write), lambda: next(lines))
    assert next(lines) == "/exit"
