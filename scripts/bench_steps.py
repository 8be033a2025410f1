"""Decoding and batches in two checkouts side by side.

    .venv/bin/python scripts/bench_steps.py ../before .

Time per token of a LLaVA-OneVision of 0.5B with random weights, one row and eight. 64 short questions about
64 pictures to the embedded model, as `illava batch` asks them, sixteen at a time, greedy and sampled. 64
answers of very unlike lengths by a small random model. The checkouts take turns, so that whatever else the
machine does is in both. Prints a table in Markdown: medians of seconds, and the fastest in brackets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

ROUNDS = int(os.environ.get("ROUNDS", "5"))
TOKENS = 24

DECODING = f"""
import json, sys, time
import numpy as np
from illava_cli import load
session = load("random:llava-onevision-0.5b", device="cpu", preset="image", max_tokens={TOKENS}, max_tiles=1)
session.model.generation_config.eos_token_id = None
picture = np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)
found = {{}}
for rows in (1, 8):
    asked = [{{"prompt": "What is shown here?", "images": [picture]}}] * rows
    for _ in range(2):
        answers = session.ask_batch(asked)
    assert {{len(answer.token_ids) for answer in answers}} == {{{TOKENS}}}
    found[f"a token, {{rows}} row" + "s" * (rows > 1)] = answers[0].timings.decode_s / {TOKENS - 1}
print(json.dumps(found))
"""
BATCH = """
import json, tempfile, threading, time
from pathlib import Path
from illava_cli import load
from illava_cli.batch.item import Item
from illava_cli.batch.worker import Options, Worker
from illava_cli.evals.world import generate
samples = [generate(task, seed) for seed in range(16) for task in ("colour", "count", "shape", "position")]
found = {}
with tempfile.TemporaryDirectory() as folder:
    items = []
    for number, sample in enumerate(samples):
        path = Path(folder) / f"{number}.png"
        sample.images[0].save(path)
        items.append(Item(str(number), sample.prompt, (str(path),)))
    for temperature in (0.0, 0.7):
        session = load("tiny", device="cpu", max_tokens=32, feature_cache_mb=0, temperature=temperature)
        worker = Worker(session, Options(batch_size=16), threading.Event())
        list(worker.answer(items[:8]))
        started = time.perf_counter()
        records = list(worker.answer(items))
        assert all(record["status"] == "ok" for record in records)
        found[f"64 questions to `tiny`, temperature {temperature}"] = time.perf_counter() - started
print(json.dumps(found))
"""
UNLIKE = """
import inspect, json, time
import numpy as np
from illava_cli import load
settings = {"max_tokens": 96, "max_tiles": 1, "stop": ["e", "5", "q"]}
session = load("random:llava-onevision-toy", device="cpu", **settings)
session.model.generation_config.eos_token_id = None
noise = np.random.default_rng(0)
pictures = [noise.integers(0, 256, (384, 384, 3), dtype=np.uint8) for _ in range(64)]
asked = [{"prompt": f"What is shown in picture {i}?", "images": [p]} for i, p in enumerate(pictures)]
session.ask_batch(asked[:4])
session.features.clear()
started = time.perf_counter()
if "rows" in inspect.signature(session.ask_batch).parameters:
    answers = session.ask_batch(asked, rows=16)
else:
    answers = [a for at in range(0, 64, 16) for a in session.ask_batch(asked[at : at + 16])]
seconds = time.perf_counter() - started
lengths = [len(a.token_ids) for a in answers]
found = {f"64 answers of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all": seconds}
print(json.dumps(found))
"""


def once(checkout: str, program: str) -> dict[str, float]:
    """What a program measured in one checkout."""
    environment = os.environ | {"PYTHONPATH": checkout}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, env=environment, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    checkouts = [os.path.abspath(path) for path in sys.argv[1:3]]
    print("| | before | after | |\n|---|---|---|---|")
    for program in (DECODING, BATCH, UNLIKE):
        rounds = [[once(checkout, program) for checkout in checkouts] for _ in range(ROUNDS)]
        for name in rounds[0][0]:
            columns = [[one[name] for one in column] for column in zip(*rounds, strict=True)]
            before, after = map(median, columns)
            shown = [f"{median(column):.4g} ({min(column):.4g})" for column in columns]
            print(f"| {name} | {' | '.join(shown)} | {before / after:.2f}x |", flush=True)
