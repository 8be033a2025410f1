"""A small task for lmms-eval's own command, offline.

All of it is made here: drawn scenes, a JSON file of questions about them and the sample clip, and the YAML
and Python that the harness wants of a task.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illava_cli.engine.record import Generation
from illava_cli.engine.session import Session
from illava_cli.evals.world import questions
from tests.processes import ROOT, run

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


@dataclass(frozen=True)
class Run:
    """The finished process, its reports, and its samples in the task's order."""

    done: subprocess.CompletedProcess[str]
    reports: list[dict[str, Any]]
    samples: list[dict[str, Any]]


class DrawnShapes:
    """The task, written into a folder that the harness looks into. The clip's question is the last."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.documents = []
        for index, sample in enumerate(questions(["colour", "shape", "count", "multi-image"], 16)):
            paths = [str(folder / f"{index}-{number}.png") for number in range(len(sample.images))]
            for path, image in zip(paths, sample.images, strict=True):
                image.save(path)
            self.documents.append({"question": sample.prompt, "answer": sample.answer, "media": paths})
        clip = {"question": "Which way does the circle move?", "answer": "right", "media": [CLIP]}
        self.documents.append(clip)
        data = folder / "questions.json"
        data.write_text("".join(json.dumps(document) + "\n" for document in self.documents))
        (folder / "drawn_shapes.yaml").write_text(TASK.format(data=data))
        (folder / "utils.py").write_text(UTILS)

    def run(self, *arguments: str, **environ: str) -> Run:
        """Run the harness's command on it."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)]),
            "HF_HOME": str(self.folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
        }
        output = self.folder / f"output-{len(list(self.folder.glob('output-*')))}"
        output.mkdir()
        command = [sys.executable, "-m", "lmms_eval", "--include_path", str(self.folder)]
        command += ["--tasks", "drawn_shapes", "--output_path", str(output), "--log_samples", *arguments]
        done = run(command, env=environment | environ, cwd=self.folder)
        reports = [json.loads(path.read_text()) for path in output.rglob("*_results.json")]
        lines = [line for path in output.rglob("*_samples_*.jsonl") for line in path.read_text().splitlines()]
        samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
        return Run(done, reports, samples)

    def asked(self, session: Session) -> list[Generation]:
        """The session's own answers."""
        answers = []
        for document in self.documents:
            videos = [path for path in document["media"] if path == CLIP]
            images = [path for path in document["media"] if path != CLIP]
            answers.append(session.ask(document["question"], images, videos))
        return answers
