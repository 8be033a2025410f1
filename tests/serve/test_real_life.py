"""How a server begins and ends: its port, its signals, and what of it stays."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.processes import run
from tests.serve.asking_both import QUESTIONS, asked
from tests.serve.on_the_wire import read_until, read_whole, sent
from tests.serve.real_server import PROGRAM, starting

pytest.importorskip("openai", reason="needs openai: pip install openai")

WORDS, IMAGE = QUESTIONS["text"], QUESTIONS["image"]
LONG = 3000  # tokens: more than any test waits for


@pytest.fixture
def server():
    with starting("--port", "0") as server:
        server.wait_until_ready()
        yield server


def is_refused(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) != 0


def gone(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_signal_lets_what_is_in_flight_end(server, long_answer, stream, tiny_session):
    settings = [f"generation.logit_bias={long_answer(1)['logit_bias']}".replace("'", '"')]
    expected = IMAGE.asked_of(tiny_session.updated([*settings, "generation.max_tokens=100"])).text
    children = server.children()
    with socket.create_connection(("127.0.0.1", server.port)):  # an idle one keeps nobody
        with sent(server, asked(IMAGE, **long_answer(100), stream=stream)) as connection:
            server.until_figures(lambda figures: figures["rows"] == 1)
            server.send(signal.SIGTERM)
            server.wait_for("ending after what is in flight")
            while not is_refused(server.port):
                pass
            found = read_whole(connection).decode()
        if stream:
            texts = re.findall(r'"delta":\{"content":("(?:[^"\\]|\\.)*")\}', found)
            assert "".join(map(json.loads, texts)) == expected
            assert found.rstrip("\r\n0").rstrip().endswith("[DONE]")
        else:
            assert expected in found
    assert server.wait() == 0
    assert gone(children)
    assert "Traceback" not in server.said


def test_the_second_signal_ends_it_at_once(server, long_answer):
    children = server.children()
    with sent(server, asked(WORDS, **long_answer(LONG), stream=True)) as connection:
        read_until(connection, b'"content":"')
        server.send(signal.SIGTERM)
        server.wait_for("a second signal ends at once")
        server.send(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
    while not gone(children):  # they end when nobody is left who could ask them
        pass
    assert "Traceback" not in server.said


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_time_to_end_is_up_it_ends_cleanly(long_answer, stream):
    with starting("--port", "0", "--drain-timeout", "0.5") as server:
        server.wait_until_ready()
        children = server.children()
        with sent(server, asked(WORDS, **long_answer(LONG), stream=stream)) as connection:
            server.until_figures(lambda figures: figures["rows"] == 1)
            server.send(signal.SIGTERM)
            found = read_whole(connection)
        assert server.wait() == 0
    assert gone(children)
    assert "Traceback" not in server.said
    assert "Exception" not in server.said
    assert b"[DONE]" not in found
    if not stream:
        assert b"HTTP/1.1 503" in found
        assert b"server_error" in found


def test_after_a_kill_it_starts_again_on_the_same_port(server):
    port, children = server.port, server.children()
    with sent(server, asked(WORDS)) as connection:
        read_until(connection, b"finish_reason")
        server.send(signal.SIGKILL)
        server.process.wait()
        with starting("--port", str(port)) as again:
            again.wait_until_ready()
            assert again.port == port
            assert again.client().chat.completions.create(**asked(WORDS)).choices[0].message.content
            assert again.stop() == 0
    assert gone(children)


def test_a_port_that_is_taken_is_one_line(server):
    second = run([PROGRAM, "serve", "-m", "tiny", "--port", str(server.port)])
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"cannot listen at 127.0.0.1 port {server.port}" in second.stderr
    assert server.stop() == 0


def test_a_root_of_media_that_is_not_there_is_one_line():
    done = run([PROGRAM, "serve", "-m", "tiny", "--media-root", "nowhere"])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'nowhere' does not exist" in done.stderr


def test_of_two_that_start_at_once_one_serves_and_one_says_why_not():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with starting("--port", str(port)) as one, starting("--port", str(port)) as other:
        while one.process.poll() is None and other.process.poll() is None:
            time.sleep(0.02)
        loser, winner = (other, one) if one.process.poll() is None else (one, other)
        assert loser.wait() == 2
        assert "Traceback" not in loser.said
        assert "cannot listen" in loser.said
        winner.wait_until_ready()
        assert winner.stop() == 0


def test_ctrl_c_while_it_starts_is_no_traceback():
    # Python says what it has imported: earlier it would be the interpreter itself that is interrupted
    with starting("--port", "0", env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        server.wait_for(r"\| *illava_cli\.cli\n")
        server.send(signal.SIGINT)
        assert server.wait() == 130
    assert "Traceback" not in server.said


def test_many_answers_that_are_broken_off_end_before_it_does(long_answer):
    with starting("--port", "0", "--drain-timeout", "0") as server, ExitStack() as stack:
        server.wait_until_ready()
        bodies = [asked(WORDS, **long_answer(LONG), stream=number % 2 == 0) for number in range(4)]
        connections = [stack.enter_context(sent(server, body)) for body in bodies]
        server.until_figures(lambda figures: figures["rows"] == len(bodies))
        server.send(signal.SIGTERM)
        for connection in connections:
            read_whole(connection)
        assert server.wait() == 0
    assert "Traceback" not in server.said
    assert "Exception" not in server.said
