"""The suite for a GPU: its processes start, crash, are limited and are told of."""

import os
import sys

from gpu_suite import jobs, pages, plan, told
from gpu_suite.journal import Journal

from tests.bench.toy_suite import ROOT, posix


def job(code):
    return jobs.Job("one", lambda seconds: [sys.executable, "-c", code], dict(os.environ))


def run(one, tmp_path, seconds=60):
    return jobs.run([one], seconds, tmp_path / "log", lambda: None)["one"]


@posix
def test_a_crash_is_a_new_start_and_a_failure_is_not(tmp_path):
    for code, starts, outcome in (
        ("", 1, "ok"),
        ("raise SystemExit(1)", 1, "exit code 1"),
        ("import os; os.kill(os.getpid(), 11)", jobs.STARTS, "killed by signal 11"),
        (f"raise SystemExit({plan.AGAIN})", jobs.STARTS, f"exit code {plan.AGAIN}"),
    ):
        one = job(code)
        assert run(one, tmp_path) == outcome
        assert one.starts == starts


@posix
def test_the_limit_ends_a_process_that_does_not_want_to(tmp_path):
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    one = job(stubborn)
    assert run(one, tmp_path, seconds=0.3) == "cut off after 0 s"
    assert one.process.poll() is not None


SUITE_OF_TESTS = """
import os, pytest
pytestmark = pytest.mark.gpu
def test_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skipif(True, reason="needs GPU: no CUDA device")
def test_absent(): pass
def test_dies(): os.kill(os.getpid(), 11)
def test_next(): pass
def test_spoils(): raise RuntimeError("CUDA error: device-side assert triggered")
def test_last(): pass
def test_of_a_cpu(): pass
test_of_a_cpu.pytestmark = []
"""


@posix
def test_each_test_is_told_and_none_takes_the_others_along(tmp_path):
    (tmp_path / "test_it.py").write_text(SUITE_OF_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: x\n")
    journal = Journal(tmp_path / "results.jsonl")
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path, told.JOURNAL: str(journal.path), told.GROUP: "all"}
    options = ["-m", "gpu", "-q", "-p", "gpu_suite.told", "-p", "no:cacheprovider", str(tmp_path)]
    one = jobs.Job("one", lambda seconds: [sys.executable, "-m", "pytest", *options], env)
    assert run(one, tmp_path) == "ok"
    assert one.starts == 3
    found = {r["id"].partition("::")[2]: r for r in journal.read() if r["kind"] == "test"}
    assert {name: record["outcome"] for name, record in found.items()} == {
        **{"test_good": "passed", "test_bad": "failed", "test_absent": "skipped", "test_dies": "crashed"},
        **{
            "test_next": "passed",
            "test_spoils": "failed",
            "test_last": "passed",
            "test_of_a_cpu": "passed",
        },
    }
    assert "assert 1 == 2" in found["test_bad"]["message"]
    summary = pages.pages(journal.read())[pages.SUMMARY]
    assert "4 passed, 2 failed, 1 crashed, 1 skipped, 0 without an outcome." in summary
    assert "- skipped 1: needs GPU: no CUDA device" in summary
