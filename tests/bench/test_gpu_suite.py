"""The suite for a GPU in its toy edition: what it learns is on disk, whatever ends it."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_suite import pages
from gpu_suite.__main__ import LATER, MACHINE, TESTS, main
from gpu_suite.journal import read

from tests.bench.toy_suite import LLAVA, QWEN, ROOT, posix


@pytest.fixture
def suite(tmp_path):
    """Starts `scripts/gpu_suite.sh --toy` into `tmp_path`; what still runs is ended."""
    started = []

    def start(*arguments):
        command = [ROOT / "scripts" / "gpu_suite.sh", "--toy", "--out", tmp_path, *arguments]
        env = os.environ | {"PYTHON": sys.executable}
        process = subprocess.Popen([*map(str, command)], env=env, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.stderr.close()
        process.wait()


def until(process, words):
    """Read what the suite says until it says this."""
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}")


def is_table(text):
    """Whether all rows of each Markdown table have as many cells as its header."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return bool(blocks) and all(len({row.count("|") for row in block.splitlines()}) == 1 for block in blocks)


@posix
def test_one_model_to_its_end(suite, tmp_path):
    process = suite("--only", MACHINE, "--only", QWEN, "--minutes", "9")
    _, said = process.communicate()
    assert process.returncode == 0, (said, (tmp_path / "gpu-log.txt").read_text())
    found = {path.name for path in tmp_path.iterdir()}
    names = ("gpu-results.jsonl", "gpu-summary.md", f"gpu-{QWEN}.md", "gpu-log.txt")
    assert found == set(names)
    summary, page = ((tmp_path / name).read_text() for name in (pages.SUMMARY, f"gpu-{QWEN}.md"))
    assert is_table(summary)
    assert is_table(page)
    for preset in ("transformers", "auto", "off", "best"):
        assert f"| {QWEN} | 168 x 168 pixels | {preset} |" in summary
    for preset in ("paper", "video"):
        assert f"`{preset}` is refused: preset '{preset}' is for LLaVA-OneVision" in summary
    assert "## 168 x 168 pixels, part by part" in page
    assert "scoring in the tower" in page
    assert str(ROOT) not in summary + page

    rendered = tmp_path / "again"
    assert main(["--render", str(tmp_path / "gpu-results.jsonl"), "--out", str(rendered)]) == 0
    assert (rendered / pages.SUMMARY).read_text() == summary


@pytest.mark.slow
@posix
def test_all_steps(suite, tmp_path):
    process = suite("--minutes", "9")
    _, said = process.communicate()
    summary = (tmp_path / pages.SUMMARY).read_text()
    assert process.returncode == 0, (said, summary, (tmp_path / "gpu-log.txt").read_text())
    for step in (MACHINE, TESTS, LLAVA, QWEN, LATER):
        assert f"| {step} | ok |" in summary
    assert "| llava-onevision-toy | 2 frames | video |" in summary
    assert "needs GPU: no CUDA device" in summary


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_kill_midway_leaves_what_was_learned(suite, tmp_path):
    """Nobody can write anything after SIGKILL: it must all be there, and no process go on alone."""
    process = suite("--only", LLAVA, "--only", QWEN, "--minutes", "9")
    until(process, f"{LLAVA}: requests, 2 frames: 1 rounds")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ends = [os.pidfd_open(int(pid)) for pid in children]  # readable once a process has ended
    process.kill()
    process.wait()
    lines = (tmp_path / "gpu-results.jsonl").read_text().splitlines()
    known = read(lines)
    assert len(known) >= len(lines) - 1
    result = [record for record in known if record["kind"] == "result"][-1]["result"]
    assert set(result["variants"]) == {"transformers", "auto", "off", "paper", "video", "best"}
    summary, page = ((tmp_path / name).read_text() for name in (pages.SUMMARY, f"gpu-{LLAVA}.md"))
    assert is_table(summary)
    assert is_table(page)
    assert "not at its end" in summary
    assert f"| {QWEN} | not run |" in summary
    assert f"| {LLAVA} | 2 frames | best |" in summary
    assert "2 frames: did not come to its end" in summary
    assert "Not measured." in page
    assert ends
    for end in ends:
        assert select.select([end], [], [], 30)[0], "it went on alone"
        os.close(end)


@posix
def test_a_signal_is_answered_with_the_last_page(suite, tmp_path):
    process = suite("--minutes", "9")
    until(process, f"{MACHINE}: running")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    summary = (tmp_path / pages.SUMMARY).read_text()
    assert "stopped by signal 15" in summary
    assert f"| {MACHINE} | cut off |" in summary
    assert f"| {TESTS} | not run |" in summary


def test_without_time_nothing_is_run_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *args: None)  # those of this process stay
    assert main(["--toy", "--out", str(tmp_path), "--minutes", "0.01"]) == 1
    summary = (tmp_path / pages.SUMMARY).read_text()
    assert summary.count("not run (no time was left)") == 5
    assert f"- {LLAVA}: not measured (frames:2, tiles:2)" in summary


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "llava"], "there are machine, tests"),
        (["--wheels", "nowhere"], "no such folder"),
        (["--minutes", "0"], "more than 0"),
        (["--render", "nowhere.jsonl"], "no such file"),
    ],
)
def test_bad_arguments_end_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err
