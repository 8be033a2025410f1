"""What tests start has default signals, also in a job in the background, and does not outlive its test."""

import os
import signal
import subprocess
import sys

import pytest

from tests.processes import ROOT, SIGNALS, Process, run

SAY = "import signal; print([signal.getsignal(s) in (0, signal.default_int_handler) for s in map(int, {})])"
# a process and one that it started; both hold the write end of a pipe
TWO = ["sh", "-c", 'exec 9> "$0"; sleep 1000 & echo started; wait']


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, which can be read to its end when no process holds it any more."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_is_ignored_here_is_not_ignored_there():
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        done = run([sys.executable, "-c", SAY.format(repr([int(s) for s in SIGNALS]))])
        after = [signal.getsignal(signum) for signum in SIGNALS]
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert done.stdout == f"{[True] * len(SIGNALS)}\n"
    assert after == [signal.SIG_IGN] * len(SIGNALS)


def test_a_test_that_fails_leaves_no_process(pipe):
    process = Process([*TWO, pipe], stdout=subprocess.PIPE)
    with pipe.open("rb") as held:
        assert process.stdout.readline() == b"started\n"
        with pytest.raises(ZeroDivisionError), process:
            raise ZeroDivisionError
        assert held.read() == b""
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("how", ["run({})", "with Process({}): pass"])
def test_a_test_that_hangs_fails_and_leaves_no_process(how, pipe, tmp_path):
    command = how.format([*TWO, str(pipe)])
    (tmp_path / "test_it.py").write_text(
        f"from tests.processes import Process, run\ndef test_hangs():\n    {command}\n"
    )
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", "-o", "timeout=1"]
    with Process(
        pytest_, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as process:
        with pipe.open("rb") as held:
            assert held.read() == b""
        out, _ = process.communicate()
    assert b"1 failed" in out
    assert b"Timeout (>1.0s)" in out
