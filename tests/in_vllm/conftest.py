"""Engines of vLLM on small checkpoints, in the environment that `make test-vllm` makes."""

from __future__ import annotations

import gc
import os

import pytest

from tests.needs import require

require("vLLM")
# read when vLLM is imported: all in one process, on few threads, and nothing sent anywhere
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

from tests.in_vllm.asking import Engines  # noqa: E402 - after what it is to read


@pytest.fixture(scope="session")
def engines(tmp_path_factory):
    """One engine at a time: the last one's memory is given back before the next is made."""
    kept = Engines(tmp_path_factory.mktemp("vllm"))
    yield kept
    kept.close()
    gc.collect()
