"""What `transformers` computes in float32 of any model, in float64 where the model is in float64.

Float32's last bit depends on where in memory a number lies: a norm then differs by 1e-7 from the same norm
over another layout, on some processors and not on others.
"""

from importlib import import_module

import torch

FAMILIES = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")


class _Doubled:
    """torch, whose float32 is float64."""

    def __getattr__(self, name: str):
        return torch.float64 if name == "float32" else getattr(torch, name)


def exact(monkeypatch) -> None:
    """Let the layers of the FAMILIES compute norms, softmax and recurrences in float64."""
    for family in FAMILIES:
        module = import_module(f"transformers.models.{family}.modeling_{family}")
        monkeypatch.setattr(module, "torch", _Doubled())
