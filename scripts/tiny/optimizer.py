"""Muon for the matrices of layers, AdamW for all else: about twice as fast here as AdamW alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon

DECAY = 0.02
ADAM_SHARE = 0.5  # AdamW's rate over Muon's


class Optimizer:
    """Steps of two optimizers over the same groups of parameters."""

    def __init__(self, *groups: list[tuple[str, nn.Parameter]]):
        """
        Args:
            groups: named parameters, each of which has a learning rate of its own.
        """
        matrices = [{"params": [p for name, p in group if is_matrix(name, p)]} for group in groups]
        others = [{"params": [p for name, p in group if not is_matrix(name, p)]} for group in groups]
        self.muon = Muon(matrices, lr=0.0, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
        self.adam = AdamW(others, lr=0.0, weight_decay=DECAY, betas=(0.9, 0.98))

    def parameters(self) -> list[torch.Tensor]:
        return [p for o in (self.muon, self.adam) for group in o.param_groups for p in group["params"]]

    def set_rates(self, rates: list[float]) -> None:
        """The learning rate of each group."""
        for optimizer, share in ((self.muon, 1.0), (self.adam, ADAM_SHARE)):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share

    def zero_grad(self) -> None:
        self.muon.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)

    def step(self) -> None:
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether it maps features to features, as embeddings and the heads that read labels do not."""
    return parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "heads."))


def is_tower(name: str) -> bool:
    """Whether a parameter is the tower's, and not of what comes after it."""
    return "vision_tower" in name or (".visual." in name and "merger" not in name)
