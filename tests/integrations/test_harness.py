"""The harness's own command answers a small task of its kind with the embedded model, offline."""

import os
import sys
import tomllib

import pytest

from illava_cli import load
from tests import processes
from tests.integrations.drawn_shapes import DrawnShapes
from tests.processes import ROOT

pytestmark = pytest.mark.needs("lmms-eval")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """The task, and the entry point as pyproject.toml has it now."""
    folder = tmp_path_factory.mktemp("harness")
    (folder / "merging.yaml").write_text(
        "model: {id: tiny, device: cpu}\npreset: auto\nmedia: {num_frames: 8}\n"
    )
    metadata = folder / "illava-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: illava\nVersion: 0\n")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    entries = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in own.items()) for group, own in groups.items()
    ]
    (metadata / "entry_points.txt").write_text("".join(entries))
    return DrawnShapes(folder)


@pytest.fixture(scope="module")
def evaluate(task):
    """Runs the harness on the task, once under the same arguments."""
    runs = {}

    def run(model_args, batch_size="1"):
        if (model_args, batch_size) not in runs:
            arguments = ("--model", "illava", "--model_args", model_args, "--batch_size", batch_size)
            runs[model_args, batch_size] = task.run(*arguments)
        return runs[model_args, batch_size]

    return run


RUNS = {
    "off": ("pretrained=tiny,preset=off,device=cpu,num_frames=8", "1"),
    "auto": ("config=merging.yaml", "6"),
}


@pytest.mark.parametrize("preset", RUNS)
def test_its_answers_are_the_session_s(evaluate, task, preset):
    run = evaluate(*RUNS[preset])
    assert run.done.returncode == 0, run.done.stderr
    (report,) = run.reports
    session = load("tiny", preset=preset, device="cpu", num_frames=8, max_tokens=8)
    expected = [answer.text for answer in task.asked(session)]
    assert [sample["filtered_resps"] for sample in run.samples] == expected
    right = sum(text == document["answer"] for text, document in zip(expected, task.documents, strict=True))
    assert report["results"]["drawn_shapes"]["accuracy,none"] == pytest.approx(right / len(expected))
    assert right >= 11  # a guess would be right about four times


def test_merging_leaves_fewer_visual_tokens(evaluate):
    spent = {}
    for preset, run in RUNS.items():
        (report,) = evaluate(*run).reports
        spent[preset] = report["throughput"]
    assert spent["off"]["avg_visual_patches"] == spent["auto"]["avg_visual_patches"]
    assert spent["off"]["avg_visual_llm_kept"] == spent["off"]["avg_visual_llm_in"]
    assert spent["auto"]["avg_visual_llm_kept"] < 0.5 * spent["off"]["avg_visual_llm_kept"]


def test_a_mistake_is_one_line_and_an_exit_code(evaluate):
    run = evaluate("pretrained=tiny,preset=of")
    done = run.done
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("illava: error: ")]
    assert "unknown preset 'of'; did you mean 'off'?" in line
    assert "Traceback" not in done.stderr + done.stdout
    assert run.reports == []


def test_likelihoods_are_refused_in_one_line():
    code = (
        "from illava_cli.integrations.lmms.model import Illava\n"
        "Illava.loglikelihood(object.__new__(Illava), [])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = processes.run([sys.executable, "-c", code], env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("illava: error: illava answers generate_until requests")
    assert "Traceback" not in done.stderr
