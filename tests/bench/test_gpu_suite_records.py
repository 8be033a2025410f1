"""The suite for a GPU: measurements, facts and wheels, and the pages made of them."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from zipfile import ZipFile

from gpu_suite import facts, measure, pages, plan, wheels
from gpu_suite.__main__ import LATER, MACHINE, TESTS
from gpu_suite.gathered import gather
from gpu_suite.journal import Journal

from tests.bench.toy_suite import QWEN, ROOT


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
    monkeypatch.setattr(measure, "load", lambda config: 1 / 0)
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
