"""What machine this is, and what of it works: versions, kernels, and the two ceilings of any figure."""

from __future__ import annotations

import argparse
import importlib.util
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_suite.journal import Journal
from illava_cli.bench.machine import describe
from illava_cli.bench.variants import synchronize
from illava_cli.models import lse
from illava_cli.reduction import triton_scores

HEAD_DIMS = (64, 72, 80, 128)  # of the models' towers and decoders


def _seconds(device: torch.device, work: Callable[[], Any], repeats: int) -> float:
    """Least time of one call."""
    work()
    taken = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def ceilings(device: torch.device) -> dict[str, float]:
    """Operations of a large bfloat16 product, and bytes read and written by a large copy, each per second."""
    edge, numbers = (8192, 1 << 31) if device.type == "cuda" else (256, 1 << 22)
    x, y = torch.randn(2, edge, edge, device=device, dtype=torch.bfloat16)
    product = _seconds(device, lambda: x @ y, 10)
    source = torch.ones(numbers, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = _seconds(device, lambda: target.copy_(source), 10)
    return {"bfloat16_flop_per_s": 2 * edge**3 / product, "copy_bytes_per_s": 2 * numbers / copy}


def kernels(device: torch.device) -> dict[str, Any]:
    """Which fast ways are open: without them the suite measures their slower replacements."""
    found: dict[str, Any] = {"flash_attn": importlib.util.find_spec("flash_attn") is not None}
    for dim in HEAD_DIMS:
        scores = triton_scores.available(device, torch.bfloat16, dim)
        kernel = device.type == "cuda" and lse._runs_on_cuda(device, torch.bfloat16, dim)
        found[f"head dim {dim}"] = {"triton scores": scores, "log-sum-exp from FlashAttention": kernel}
    return found


def main() -> int:
    """Each fact is written by itself, the plain ones first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--device", required=True)
    arguments = parser.parse_args()
    journal, device = Journal(arguments.journal), torch.device(arguments.device)
    journal.add("machine", machine=describe([]))
    if device.type == "cuda" and not torch.cuda.is_available():
        journal.add("error", where="machine", message="there is no CUDA device here: --toy runs on the CPU")
        return 1
    facts = {"kernels": lambda: {"kernels": kernels(device)}, "ceilings": lambda: ceilings(device)}
    broken = 0
    for kind, learn in facts.items():
        try:
            journal.add(kind, **learn())
        except Exception as error:  # one that cannot be had must not cost the next
            traceback.print_exc()
            journal.add("error", where=f"machine, {kind}", message=f"{type(error).__name__}: {error}")
            broken = 1
    return broken


if __name__ == "__main__":
    raise SystemExit(main())
