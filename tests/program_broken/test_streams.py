"""Full disks and closed streams: one line on stderr, or none where stderr is closed."""

from __future__ import annotations

import os
import sys

import pytest

from tests import processes
from tests.needs import skip
from tests.program_broken.lines import ASK, LLAVA, OFF, PROGRAM, one_line


@pytest.mark.needs("mount")
def test_a_full_disk_under_the_answer(checkpoints, tmp_path):
    """On a tiny file system of its own, where this user may mount one."""
    script = (
        'mount -t tmpfs -o size=16k none "$0" || exit 99; head -c 65536 /dev/zero > "$0/full" 2> /dev/null; '
        '"$@"; code=$?; ls -A "$0"; exit $code'
    )
    answer = tmp_path / "answer.txt"
    question = [PROGRAM, "run", "-m", checkpoints(LLAVA), *OFF, "-q", *ASK, "-o", answer]
    done = processes.run(["unshare", "-rm", "sh", "-c", script, tmp_path, *question])
    if done.returncode not in (0, 1, 2):
        skip("mount", done.stderr.strip())
    assert done.stdout == "full\n"
    one_line((done.returncode, "", done.stderr), 1, "answer.txt", "No space left")


@pytest.mark.needs("/dev/full")
@pytest.mark.parametrize("flags", [["--no-stream"], ["--stream"], ["--format", "json"]], ids=" ".join)
def test_a_full_disk_under_stdout(run, monkeypatch, flags):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = run(*ASK, "-q", *flags)
    one_line(done, 1, "stdout", "No space left")


def test_a_write_that_fails_leaves_nothing(run, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    one_line(run(*ASK, "-o", "answer.txt"), 1, "answer.txt", "No space left")
    assert os.listdir() == []


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams(tmp_path, closed):
    """What belongs to stderr never goes to stdout."""
    command = f'"{PROGRAM}" run -p x --image missing.jpg {closed}'
    done = processes.run(["sh", "-c", command], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == (closed == "<&-")
