"""The suite for a GPU in its toy edition: what it learns is on disk, whatever ends it."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest
from gpu_suite import facts, jobs, measure, pages, plan, told, wheels
from gpu_suite.__main__ import LATER, MACHINE, TESTS, main
from gpu_suite.gathered import gather
from gpu_suite.journal import Journal, read

ROOT = Path(__file__).parents[2]
QWEN, LLAVA = "qwen2.5-vl-toy", "llava-onevision-toy"
posix = pytest.mark.skipif(sys.platform == "win32", reason="a bash script and its signals")


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


def test_a_broken_line_is_left_out(tmp_path):
    journal = Journal(tmp_path / "results.jsonl")
    journal.add("wheels", unpacked=["é"])
    with open(journal.path, "a") as file:
        file.write('{"kind": "machine", "mach')
    assert [record["unpacked"] for record in journal.read()] == [["é"]]


def test_a_copy_without_git_is_told_its_commit():
    start = {"kind": "start", "commit": "abc123", "models": [], "steps": []}
    described = {"kind": "machine", "machine": facts.describe([])}
    for known, shown in ((None, "abc123"), ("fff000", "fff000")):
        described["machine"]["commit"] = known
        assert f"- commit {shown}\n" in pages.pages([start, described])[pages.SUMMARY]


# --- processes ------------------------------------------------------------------------------------


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
def test_behind(): pass
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
            "test_behind": "passed",
            "test_spoils": "failed",
            "test_last": "passed",
            "test_of_a_cpu": "passed",
        },
    }
    assert "assert 1 == 2" in found["test_bad"]["message"]
    summary = pages.pages(journal.read())[pages.SUMMARY]
    assert "4 passed, 2 failed, 1 crashed, 1 skipped, 0 without an outcome." in summary
    assert "- skipped 1: needs GPU: no CUDA device" in summary


# --- measurements ---------------------------------------------------------------------------------


def test_what_broke_a_process_is_left_out_by_the_next(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "results.jsonl")
    arguments = ["measure", "--journal", str(journal.path), "--model", QWEN, "--seconds", "600", "--toy"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(measure.compare.__globals__["Ours"], "answer", breaks := Breaking())
    assert measure.main() == plan.AGAIN
    assert breaks.calls == 2  # of `auto` and of `off`, which breaks
    assert measure.main() == 0
    records = journal.read()
    (broken,) = (record for record in records if record["kind"] == "broken")
    assert (broken["variant"], broken["label"]) == ("off", "168 x 168 pixels")
    (error,) = (record for record in records if record["kind"] == "error")
    assert "unspecified launch failure" in error["message"]
    last = {record["what"]: record for record in records if record["kind"] == "result"}
    for what in ("requests", "parts"):
        assert last[what]["over"]
        assert list(last[what]["result"]["variants"]) == ["transformers", "auto", "best"]
    summary = pages.pages(records)[pages.SUMMARY]
    assert "`off` broke the process (168 x 168 pixels)" in summary


class Breaking:
    """`Ours.answer`, which fails once, in its second call."""

    def __init__(self):
        self.calls = 0
        self.answer = measure.Ours.answer

    def __get__(self, instance, owner=None):
        return partial(self, instance)

    def __call__(self, variant, *args, **kwargs):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return self.answer(variant, *args, **kwargs)


def test_the_newer_run_counts_and_an_empty_start_hides_nothing():
    def result(rounds):
        variants = {} if not rounds else {"off": {"rounds": rounds}}
        return {
            "kind": "result",
            "name": "m",
            "what": "requests",
            "label": "1 tile",
            "running": None,
            "over": 1,
        } | {"result": {"variants": variants}}

    def newest(*records):
        return (
            gather(records).models["m"].results["requests", "1 tile"]["result"]["variants"]["off"]["rounds"]
        )

    assert newest(result(1), result(2)) == 2
    assert newest(result(3), result(0)) == 3


# --- wheels ---------------------------------------------------------------------------------------


def test_wheels_go_before_what_is_installed(tmp_path, monkeypatch):
    for name in ("one_module", "pytest"):
        with ZipFile(tmp_path / f"{name}-2.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "")
    (tmp_path / "torn-1.0-py3-none-any.whl").touch()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setitem(wheels.NEEDED, "no_such_module", "no-such-package")
    found = wheels.unpack(tmp_path)
    assert found == {
        "unpacked": ["one_module-2.0", "pytest-2.0"],
        "broken": ["torn-1.0-py3-none-any.whl"],
        "lacking": ["no-such-package"],
    }
    code = "import one_module, pytest; print(pytest.__file__)"
    where = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert where == f"{sys.path[0]}/pytest.py\n"
    shutil.rmtree(sys.path[0])
    summary = pages.pages([{"kind": "wheels", **found}])[pages.SUMMARY]
    assert "- Lacking: no-such-package" in summary


def test_a_fact_that_cannot_be_had_does_not_cost_the_next(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "results.jsonl")
    monkeypatch.setattr(sys, "argv", ["facts", "--journal", str(journal.path), "--device", "cpu"])
    monkeypatch.setattr(facts.triton_scores, "available", lambda *args: 1 / 0)
    assert facts.main() == 1
    kinds = [record["kind"] for record in journal.read()]
    assert kinds == ["machine", "error", "ceilings"]


def test_a_model_that_does_not_load_is_not_tried_again(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "results.jsonl")
    arguments = ["measure", "--journal", str(journal.path), "--model", QWEN, "--seconds", "9", "--toy"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(measure, "Session", lambda config: 1 / 0)
    assert measure.main() == 1
    assert journal.read()[-1]["message"] == "ZeroDivisionError: division by zero"


def test_the_commit_is_told_where_git_is_not_there():
    about = {"kind": "model", "name": "m", "refused": {}, "media": ["1 tile"]}
    about |= {"model": {"load_s": 1.0}, "machine": {"commit": None}}
    result = {"medium": {}, "variants": {"off": {}}}
    record = {"kind": "result", "name": "m", "what": "requests", "label": "1 tile", "result": result}
    model = gather([about, record | {"running": None, "over": True}]).models["m"]
    assert model.report("requests", "1 tile", {"commit": "abc"})["machine"]["commit"] == "abc"
    assert model.report("parts", "1 tile", {}) is None


def test_the_page_names_all_steps_and_wheels():
    page = (ROOT / "docs" / "benchmarks" / "gpu.md").read_text()
    for step in (MACHINE, TESTS, LATER, *(model.name for model in plan.GPU.models)):
        assert f"| `{step}` |" in page
    for name in wheels.NEEDED.values():
        assert re.search(rf"\b{name}\b", page), name
    assert json.dumps(plan.GPU.new_tokens) in page
