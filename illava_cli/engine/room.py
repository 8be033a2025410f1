"""How many tokens the KV caches of a batch may hold, by the memory that is free."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from illava_cli.models.family import Family

# of what is free: activations come on top, caches grow by a quarter, and newcomers are there twice
SHARE = 0.4
CGROUP, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cache_tokens(family: Family) -> int | None:
    """Tokens that fit in a batch's caches beside a loaded model; None where free memory is not known."""
    free = free_bytes(family.device)
    return None if free is None else max(1, int(SHARE * free / bytes_per_token(family)))


def bytes_per_token(family: Family) -> int:
    """Memory of one token's keys and values in all layers."""
    config = family.text_config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * family.model.dtype.itemsize


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free where a model is."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(filter(None, [_of_machine(), _of_container()]), default=None) if device.type == "cpu" else None


def _of_machine() -> int | None:
    with suppress(OSError, ValueError, IndexError):  # no Linux
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_container() -> int | None:
    """What containers and units around this process leave of their limits."""
    left = [found for group in _groups() if (found := _left(group)) is not None]
    return min(left, default=None)


def _groups() -> list[Path]:
    """The control groups of this process, the innermost first; within a container only its own is seen."""
    with suppress(OSError):
        for line in OWN_GROUP.read_text().splitlines():
            if line.startswith("0::/"):
                own = CGROUP / line[len("0::/") :]
                return [group for group in (own, *own.parents) if group.is_relative_to(CGROUP)]
    return [CGROUP]


def _left(group: Path) -> int | None:
    with suppress(OSError, ValueError):  # no such control, or no limit ("max")
        limit = int((group / "memory.max").read_text())
        return max(1, limit - int((group / "memory.current").read_text()))
    return None
