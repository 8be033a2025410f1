"""From the host to the device without waiting: a plain copy would stop the forward pass on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def to_device(values: Any, device: torch.device) -> Tensor:
    """Numbers or a CPU tensor on `device`; on CUDA through pinned memory, without a synchronisation."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
