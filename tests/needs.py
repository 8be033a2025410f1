"""What a test needs and a machine may lack: `pytest.mark.needs("jq")`, and the marks `gpu` and `network`.

A test without its need is skipped, with what is missing and how to get it. The summary counts skips by need;
a file that cannot be imported (`pytest.importorskip("ray", reason="needs Ray: ...")`) counts as one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import NoReturn

import pytest

Missing = Callable[[], str | None]  # what is missing, and how to get it; None where all is there


def _program(*names: str, package: str = "") -> Missing:
    def missing() -> str | None:
        lacks = [name for name in names if shutil.which(name) is None]
        return f"no {' and no '.join(lacks)}: apt-get install {package or ' '.join(names)}" if lacks else None

    return missing


def _module(name: str, package: str) -> Missing:
    return lambda: None if find_spec(name) else f"no module {name}: pip install {package}"


def _gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def _no_gpu() -> str | None:
    return None if _gpu() else "this machine has a CUDA device"


def _no_torchvision() -> str | None:
    return "torchvision is installed" if find_spec("torchvision") else None


def _full_device() -> str | None:
    return None if os.path.exists("/dev/full") else "no /dev/full"


def _two_cores() -> str | None:
    return None if (os.cpu_count() or 1) > 1 else "one core"


NEEDS: dict[str, Missing] = {
    "GPU": _gpu,
    "no GPU": _no_gpu,
    "FlashAttention": _module("flash_attn", "flash-attn"),
    "network": lambda: None,  # found by asking: tests/test_network.py
    "browser": _program("chromium", "chromedriver", package="chromium chromium-driver"),
    "curl": _program("curl"),
    "jq": _program("jq"),
    "ffmpeg": _program("ffmpeg"),
    "git": _program("git"),
    "g++": _program("g++"),
    "bash": _program("bash"),
    "mount": _program("unshare", package="util-linux"),
    "Ray": _module("ray", "'illava[ray]'"),
    "vLLM": lambda: None if find_spec("vllm") else "no module vllm: make test-vllm has an environment for it",
    "two cores": _two_cores,
    "lmms-eval": _module("lmms_eval", "lmms-eval (docs/lmms-eval.md says how, beside a CPU build of torch)"),
    "Triton": _module("triton", "triton"),
    "matplotlib": _module("matplotlib", "'illava[plot]'"),
    "prompt_toolkit": _module("prompt_toolkit", "'illava[chat]'"),
    "llm": _module("llm", "'illava[llm]'"),
    "llguidance": _module("llguidance", "'illava[structured]'"),
    "jsonschema": _module("jsonschema", "jsonschema"),
    "openai": _module("openai", "openai"),
    "LangChain": _module("langchain_openai", "langchain-openai"),
    "sentencepiece": _module("sentencepiece", "'illava[sentencepiece]'"),
    "griffe": _module("griffe", "'illava[docs]'"),
    "zensical": _module("zensical", "'illava[docs]'"),
    "no torchvision": _no_torchvision,
    "/dev/full": _full_device,
}
MARKS = {"gpu": "GPU", "network": "network"}
missing = cache(lambda name: NEEDS[name]())


def skip(name: str, why: str) -> NoReturn:
    """Skip the running test, or the module that is being imported, for want of `name`."""
    assert name in NEEDS, name
    pytest.skip(f"needs {name}: {why}", allow_module_level=True)


def require(*names: str) -> None:
    """Skip where one of these is missing; in a module, before it imports what it cannot do without."""
    for name in names:
        if why := missing(name):
            skip(name, why)


def pytest_runtest_setup(item: pytest.Item) -> None:
    require(*(need for mark, need in MARKS.items() if item.get_closest_marker(mark)))
    for mark in item.iter_markers("needs"):
        require(*mark.args)


def counted(reasons: list[str]) -> str:
    """`34 GPU, 4 network, 1 other` of the reasons of skips, the most frequent first."""
    named = [re.search(r"needs ([^:]+): ", reason) for reason in reasons]
    counts = Counter(found[1] if found else "other" for found in named)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    if reasons := [where[2] for where in skipped if isinstance(where, tuple)]:  # an expected failure has text
        terminalreporter.write_line(f"skipped: {counted(reasons)}")
