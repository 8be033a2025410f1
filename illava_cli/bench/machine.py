"""The machine behind a number, and the versions and the command: no names of hosts, no paths."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import torch
import transformers

from illava_cli import __version__

SIGNS = re.compile(r"([=,\[{'\"]\s*)")  # behind which a path may begin


def describe(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything that a reader needs to judge a number; memory in bytes.

    Args:
        arguments: the command line without the program; default: this process's.
    """
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": driver(),
        "triton": _version("triton"),
        "transformers": transformers.__version__,
        "illava": __version__,
        "commit": commit(),
        "command": command(sys.argv[1:] if arguments is None else arguments),
    }


def cpu_name() -> str:
    """The processor as it calls itself."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Main memory of the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def gpus() -> list[dict[str, Any]]:
    """Name and memory of each CUDA device."""
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append({"name": properties.name, "memory_bytes": properties.total_memory})
    return found


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none, or nobody to ask."""
    program = shutil.which("nvidia-smi")
    if program is None or not torch.cuda.is_available():
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit that is checked out, with `+changes` where the code differs; None outside of git."""
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--", ":/*.py", ":/*.yaml", ":/*.sh")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def command(arguments: Sequence[str]) -> str:
    """The command line, as a shell takes it; of a path that leads out of the working folder its last part."""
    return shlex.join(["illava", *map(_without_folders, arguments)])


def _without_folders(argument: str) -> str:
    """A path may be part of it: `name: preset=../mine.yaml llm.keep=0.5`, `clips=[/a/b.mp4, c.mp4]`."""
    return "".join(map(_last_part, re.split(SIGNS, argument)))


def _last_part(value: str) -> str:
    local = value.removeprefix("file://").removeprefix("-o")
    leads_out = os.sep in local and (local.startswith((os.sep, "~")) or f"..{os.sep}" in local)
    return value.removesuffix(local) + PurePath(local).name if leads_out else value


def slug(description: dict[str, Any] | None = None) -> str:
    """A short name of the machine for files: `nvidia-h200`, `amd-epyc-2-cores`."""
    machine = description or describe([])
    name = machine["gpus"][0]["name"] if machine["gpus"] else f"{machine['cpu']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")
