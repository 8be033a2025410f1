"""Tests see the same environment on every machine: importing this clears what libraries read at their import.

What network tests need to find the checkpoints stays (`HF_HOME`, a token, a proxy). What says how fast or on
which device stays too (`OMP_NUM_THREADS`, `CUDA_VISIBLE_DEVICES`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

# GIT_DIR, which a git hook sets, would turn a test's commits on the repository itself
OF_LIBRARIES = ("ILLAVA_", "HF_", "TRANSFORMERS_", "TRITON_", "TORCH", "RAY_", "MPL")
OF_LIBRARIES += ("PYTHON", "GIT_", "XDG_")
KEPT = {"HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "XDG_CACHE_HOME"}
KEPT |= {"PYTHONDONTWRITEBYTECODE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"}
# without a word on the language it is "C", under which Python takes everything for UTF-8
OF_TERMINALS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "TTY_", "TERM")
OF_TERMINALS += ("LANG", "LC_", "TZ")
HERE = "127.0.0.1,localhost"


def drop(prefixes: tuple[str, ...], environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove the variables that begin so, but for those that are KEPT."""
    for name in list(environ):
        if name.startswith(prefixes) and name not in KEPT:
            del environ[name]


def clear(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove what libraries read, also in children; no proxy is for tests' servers, git has no settings.

    Processes have one thread where nothing else is said: tests run side by side, and more of them would spin,
    waiting for each other.
    """
    drop(OF_LIBRARIES, environ)
    environ.setdefault("OMP_NUM_THREADS", "1")
    environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for name in ("no_proxy", "NO_PROXY"):
        environ[name] = ",".join(filter(None, [environ.get(name), HERE]))


@contextmanager
def as_in_a_plain_terminal() -> Iterator[None]:
    """No word on colours, width, language or time zone, and new files are readable; all is back afterwards.

    Only while tests run, since pytest's own output follows them too.
    """
    before, mask = dict(os.environ), os.umask(0o022)
    drop(OF_TERMINALS)
    time.tzset()
    try:
        yield
    finally:
        os.umask(mask)
        os.environ.clear()
        os.environ.update(before)
        time.tzset()


clear()
