"""vLLM's server for a model of ours: the command that starts it, and one that answers for a while."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from illava_cli.config.settings import Config
from illava_cli.errors import IllavaError, UsageError
from illava_cli.vllm.launch import engine_settings
from illava_cli.vllm.version import check_version

PATIENCE_S = 1800.0  # for a large model to be read and compiled
ENDING_S = 60.0


def server_command(
    config: Config, name: str, place: tuple[str, int], rest: Sequence[str], note: Callable[[str], None]
) -> list[str]:
    """The program that serves the model of a configuration.

    Args:
        name: under which it is asked for.
        place: host and port.
        rest: further arguments of vLLM's, which come last: they win.

    Raises:
        UsageError: settings that vLLM cannot be told here.
    """
    check_version()
    model = config.model
    for option in ("quantization", "device_map", "compile"):
        if getattr(model, option):
            raise UsageError(f"--{option.replace('_', '-')}: vLLM has an option of its own: give it after --")
    settings = engine_settings(config, note)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", settings["model"]]
    command += ["--hf-overrides", json.dumps(settings["hf_overrides"])]
    command += ["--video-pruning-rate", str(settings["video_pruning_rate"]), "--trust-request-mm-kwargs"]
    command += ["--served-model-name", name, "--host", place[0], "--port", str(place[1])]
    if model.dtype != "auto":
        command += ["--dtype", model.dtype]
    return [*command, *rest]


def become(command: Sequence[str]) -> None:
    """Let vLLM go on in this process's place: signals and the exit code are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], list(command))


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[str]:
    """A server's address until the end.

    Raises:
        IllavaError: it ended before it could answer.
    """
    own = dict(start_new_session=True, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno())
    with subprocess.Popen(list(command), stdin=subprocess.DEVNULL, **own) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            answered(server, f"{url}/health")
            yield url
        finally:
            _end(server)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answered(server: subprocess.Popen, address: str) -> None:
    """Wait until a server answers there.

    Raises:
        IllavaError: it ended before it did, or it takes too long.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE_S:
        if (code := server.poll()) is not None:
            raise IllavaError(f"vLLM ended with code {code} before it could answer: its messages say why")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise IllavaError(f"vLLM did not answer within {PATIENCE_S:g} s")


def _end(server: subprocess.Popen) -> None:
    """It and the processes that it has started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
        except ProcessLookupError:
            return
        try:
            server.wait(ENDING_S)
            return
        except subprocess.TimeoutExpired:
            continue
