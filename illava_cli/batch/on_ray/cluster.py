"""A Ray cluster: one that is there, or one of ours, which ends with the run. Ray itself stays silent."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from illava_cli.batch.on_ray.shares import Node
from illava_cli.errors import IllavaError, ModelError
from illava_cli.text import one_line

LOCAL = "local"
UNREACHABLE = "cannot reach a Ray cluster at {}: start one with `ray start --head`, or check the address"
CONNECT_S = 10.0
STORE_BYTES = 256 << 20  # what travels is names and texts, no pixels


@contextmanager
def cluster(address: str | None, *, debug: bool = False) -> Iterator[list[Node]]:
    """The nodes of a cluster, while the program is connected to it. For the main thread.

    Args:
        address: of a cluster that is there (`auto`, `HOST:PORT`); default `$RAY_ADDRESS`, else a cluster on
            this machine is started, and ended afterwards.
        debug: Ray's own messages go to stderr.

    Raises:
        ModelError: Ray, or what its data part needs, is not installed.
        IllavaError: the cluster cannot be reached or started, or runs other versions.
    """
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # a thread that is still at work when the run ends must not start another cluster
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    if not debug:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        warnings.filterwarnings("ignore", module=r"ray(\.|$)")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ModelError("--workers ray needs ray: pip install 'illava[ray]'") from error
    if not _answers(address):
        raise IllavaError(UNREACHABLE.format(address))
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == LOCAL else {}
    level = logging.INFO if debug else logging.CRITICAL
    try:
        try:
            # what Ray's compiled part says at the start, no setting of it holds back
            with nullcontext() if debug else _stderr_to_nowhere():
                ray.init(address=address, log_to_driver=False, logging_level=level, **own)
        except Exception as error:
            raise IllavaError(_refused(address, error)) from error
        _silence(debug)
        yield [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    """Whether somebody listens at `HOST:PORT`: where nobody does, Ray tries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return True  # a word, which Ray resolves by itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError):
        return False
    return True


@contextmanager
def _stderr_to_nowhere() -> Iterator[None]:
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _silence(debug: bool) -> None:
    # deaths of workers would be reported on stdout, which carries results only
    sys.modules["ray._private.worker"]._worker_logs_enabled = False
    if debug:
        return
    for handler in logging.getLogger("ray.data").handlers:
        # its own only: who watches all loggers, as a test runner does, hangs the root's there as well
        if isinstance(handler, logging.StreamHandler) and handler not in logging.root.handlers:
            handler.setLevel(logging.CRITICAL + 1)


def _node(resources: dict[str, float]) -> Node:
    return Node(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


def _refused(address: str, error: Exception) -> str:
    whole = one_line(error) or type(error).__name__
    reason = whole[:200]
    if address == LOCAL:
        return f"cannot start a Ray cluster on this machine: {reason}"
    if "AuthenticationError" in whole or "InvalidAuthToken" in whole:
        return f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token here, with its token"
    if "ersion mismatch" in whole:
        return f"the Ray cluster at {address} runs other versions than this program: {reason}"
    return UNREACHABLE.format(address)
