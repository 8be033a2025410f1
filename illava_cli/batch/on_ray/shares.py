"""What a cluster's nodes have -> how many replicas, and what each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from illava_cli.errors import ModelError, UsageError

CPUS = 4  # a replica's by default: beyond, a second replica gains more than more threads do


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has."""

    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Share:
    """Replicas, and the CPUs and GPUs of each."""

    replicas: int
    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        each = " and ".join(filter(None, [_counted(self.gpus, "GPU"), _counted(self.cpus, "CPU")]))
        return f"{_counted(self.replicas, 'replica')}, each with {each or 'no CPU of its own'}"


def share_out(nodes: Sequence[Node], *, replicas: int | None, device: str, spread: bool) -> Share:
    """Divide the nodes: by GPUs where there are any and `device` does not say `cpu`, else by CPUs.

    Args:
        replicas: how many; by default one for each GPU, or for every `CPUS` CPUs.
        device: `auto`, `cpu` or `cuda`; Ray decides which GPU.
        spread: the model is spread over devices (`device_map`): replicas get several GPUs, by default all
            of a node.

    Raises:
        UsageError: a device that Ray does not hand out, or more replicas than the nodes can take.
        ModelError: a GPU was asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: Ray gives each replica its device; use auto, cuda or cpu")
    with_gpus = [node for node in nodes if node.gpus]
    if device == "cuda" and not with_gpus:
        raise ModelError("CUDA was asked for and no node of the cluster has a GPU: use --device cpu")
    if device == "cpu" or not with_gpus:
        amounts = [node.cpus for node in nodes if node.cpus]
        each = _each(amounts, "CPU", CPUS, replicas)
        return Share(replicas or _fitting(amounts, each), cpus=each)
    amounts = [node.gpus for node in with_gpus]
    each = _each(amounts, "GPU", min(amounts), replicas) if spread else 1
    _refuse_more(replicas, _fitting(amounts, each), amounts, "GPU")
    cpus = min(CPUS, *(node.cpus * each // node.gpus for node in with_gpus))
    return Share(replicas or _fitting(amounts, each), cpus=cpus, gpus=each)


def _each(amounts: Sequence[int], unit: str, most: int, replicas: int | None) -> int:
    """What a replica gets: as much as lets all of them find a place."""
    _refuse_more(replicas, sum(amounts), amounts, unit)
    if replicas is None:
        return min(most, *amounts)
    return next(each for each in range(max(amounts), 0, -1) if _fitting(amounts, each) >= replicas)


def _fitting(amounts: Sequence[int], each: int) -> int:
    return sum(amount // each for amount in amounts)


def _refuse_more(replicas: int | None, most: int, amounts: Sequence[int], unit: str) -> None:
    if not most:
        raise UsageError(f"no node of the cluster has a {unit}: start it with some")
    if replicas is not None and replicas > most:
        raise UsageError(f"--replicas {replicas}: the cluster has {_counted(sum(amounts), unit)}")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}" if number else ""
