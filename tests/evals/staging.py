"""What the tests of the trainer share: small sizes of the embedded models, questions with their stages."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from tiny.checkpoint import ARCHITECTURES

from illava_cli import load
from illava_cli.engine.session import Session
from illava_cli.evals.world import TASKS, stream
from illava_cli.evals.world.task import Question, Stage

LAYERS = {"num_hidden_layers": 2}
SMALL = {  # of tower and decoder
    "tiny": 2 * [{"hidden_size": 64, "intermediate_size": 96} | LAYERS],
    "tiny-qwen": [
        {"hidden_size": 64, "intermediate_size": 96, "depth": 2, "deepstack_visual_indexes": [0]},
        {"hidden_size": 64, "intermediate_size": 96} | LAYERS,
    ],
}


@cache
def _exported(name: str) -> Path:
    folder, architecture = Path(mkdtemp(prefix=name)), ARCHITECTURES[name]
    model = architecture.model(0, *SMALL[name])
    architecture.start(model)
    architecture.export(model, folder)
    return folder


def small_session(name: str = "tiny", **settings) -> Session:
    """A new session of a small model, always with the same weights."""
    return load(str(_exported(name)), preset="off", device="cpu", dtype="float32", attn="eager", **settings)


def staged(task: str, seed: int = 0) -> tuple[Stage, Question]:
    """A stage of a task, for validation, and a question about it."""
    rng = stream(task, seed, "validation")
    while True:
        stage = TASKS[task].draw(rng)
        question = TASKS[task].ask(stage, rng)
        if question is not None:
            return stage, question


def losses_while_learning(heads, out, steps: int) -> tuple[float, float]:
    """The first loss of a decoder's readers and the last, as they learn from one pass."""
    optimizer, losses = torch.optim.Adam(heads.parameters(), 0.01), []
    for _ in range(steps):
        loss, _ = heads(out)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]
