"""What a training run is at one moment, written to disk whole or not at all."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from tiny.optimizer import Optimizer


@dataclass
class Progress:
    """Where a run stands. `stage_started`: seconds of training at which the stage began."""

    stage: str
    step: int = 0
    seconds: float = 0.0
    stage_started: float = 0.0


def save(path: Path, progress: Progress, model: nn.Module, heads: nn.Module, optimizer: Optimizer) -> None:
    state = {
        "progress": asdict(progress),
        "model": model.state_dict(),
        "heads": heads.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    half = path.with_suffix(".part")
    torch.save(state, half)
    os.replace(half, path)


def restore(path: Path, model: nn.Module, heads: nn.Module, optimizer: Optimizer) -> Progress:
    state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    model.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])
