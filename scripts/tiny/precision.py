"""In which precision a step of training is faster on this machine."""

from __future__ import annotations

import time
from functools import cache

import torch

SIZE = (2048, 256, 512)  # rows, width and columns of a product of these models
ROUNDS = 5


@cache
def bfloat16_is_faster(device: str) -> bool:
    """On some processors that have instructions for it it is not, so a CPU is timed."""
    if device != "cpu":
        return True
    rows, width, columns = SIZE
    one, other = torch.ones(rows, width), torch.ones(width, columns)

    def seconds(dtype: torch.dtype) -> float:
        a, b, times = one.to(dtype), other.to(dtype), []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - started)
        return min(times)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def autocast(device: torch.device) -> torch.autocast:
    """Computes in bfloat16 where that is faster; weights stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_faster(device.type))
