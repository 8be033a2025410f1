"""The harness's own command answers a small task of its kind with the embedded model, offline.

The task is made here: drawn scenes, the sample clip and a JSON file of questions. So are the YAML and Python
that the harness wants of a task.
"""

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

from illava_cli import load
from illava_cli.evals.world import questions
from tests import processes

ROOT = Path(__file__).parents[2]
CLIP = str(ROOT / "illava_cli" / "assets" / "shapes.mp4")
TASK = """\
task: drawn_shapes
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visuals
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
process_results: !function utils.score
generation_kwargs: {{max_new_tokens: 8, temperature: 0, do_sample: false, until: ["\\n"]}}
metric_list: [{{metric: accuracy, aggregation: mean, higher_is_better: true}}]
"""
UTILS = """\
from PIL import Image

def visuals(doc):
    return [path if path.endswith(".mp4") else Image.open(path).convert("RGB") for path in doc["media"]]

def score(doc, results):
    return {"accuracy": float(results[0].strip() == doc["answer"])}
"""

pytestmark = pytest.mark.needs("lmms-eval")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The task, its data, and the entry point as pyproject.toml has it now."""
    folder = tmp_path_factory.mktemp("harness")
    documents = []
    for index, sample in enumerate(questions(["colour", "shape", "count", "multi-image"], 16)):
        paths = [str(folder / f"{index}-{number}.png") for number in range(len(sample.images))]
        for path, image in zip(paths, sample.images, strict=True):
            image.save(path)
        documents.append({"question": sample.prompt, "answer": sample.answer, "media": paths})
    documents.append({"question": "Which way does the circle move?", "answer": "right", "media": [CLIP]})
    data = folder / "questions.json"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    (folder / "drawn_shapes.yaml").write_text(TASK.format(data=data))
    (folder / "utils.py").write_text(UTILS)
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
    return folder


@pytest.fixture(scope="module")
def evaluate(folder):
    """Runs the harness on the task: the finished process, its report and its samples."""
    runs = {}
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }

    def run(model_args, batch_size="1"):
        if (model_args, batch_size) in runs:
            return runs[model_args, batch_size]
        output = folder / f"output-{len(runs)}"
        command = [sys.executable, "-m", "lmms_eval", "--model", "illava", "--model_args", model_args]
        command += ["--include_path", str(folder), "--tasks", "drawn_shapes", "--batch_size", batch_size]
        command += ["--output_path", str(output), "--log_samples"]
        done = processes.run(command, env=environment, cwd=folder)
        reports = [json.loads(path.read_text()) for path in output.rglob("*_results.json")]
        lines = [line for path in output.rglob("*_samples_*.jsonl") for line in path.read_text().splitlines()]
        runs[model_args, batch_size] = done, reports, [json.loads(line) for line in lines]
        return runs[model_args, batch_size]

    return run


RUNS = {
    "off": ("pretrained=tiny,preset=off,device=cpu,num_frames=8", "1"),
    "auto": ("config=merging.yaml", "6"),
}


@pytest.mark.parametrize("preset", RUNS)
def test_its_answers_are_the_session_s(evaluate, folder, preset):
    done, (report,), samples = evaluate(*RUNS[preset])
    assert done.returncode == 0, done.stderr
    session = load("tiny", preset=preset, device="cpu", num_frames=8, max_tokens=8)
    documents = [json.loads(line) for line in (folder / "questions.json").read_text().splitlines()]
    expected = []
    for document in documents:
        videos = [path for path in document["media"] if path == CLIP]
        images = [path for path in document["media"] if path != CLIP]
        expected.append(session.ask(document["question"], images, videos).text)
    samples.sort(key=lambda sample: sample["doc_id"])
    assert [sample["filtered_resps"] for sample in samples] == expected
    right = sum(text == document["answer"] for text, document in zip(expected, documents, strict=True))
    assert report["results"]["drawn_shapes"]["accuracy,none"] == pytest.approx(right / len(documents))
    assert right >= 11  # a guess would be right about four times


def test_merging_leaves_fewer_visual_tokens(evaluate):
    spent = {}
    for preset, run in RUNS.items():
        _, (report,), _ = evaluate(*run)
        spent[preset] = report["throughput"]
    assert spent["off"]["avg_visual_patches"] == spent["auto"]["avg_visual_patches"]
    assert spent["off"]["avg_visual_llm_kept"] == spent["off"]["avg_visual_llm_in"]
    assert spent["auto"]["avg_visual_llm_kept"] < 0.5 * spent["off"]["avg_visual_llm_kept"]


def test_a_mistake_is_one_line_and_an_exit_code(evaluate):
    done, reports, _ = evaluate("pretrained=tiny,preset=of")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("illava: error: ")]
    assert "unknown preset 'of'; did you mean 'off'?" in line
    assert "Traceback" not in done.stderr + done.stdout
    assert reports == []


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
