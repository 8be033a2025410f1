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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from illava_cli.config.settings import Config
from illava_cli.errors import IllavaError, UsageError
from illava_cli.vllm.command import ENDS_WITH
from illava_cli.vllm.launch import engine_settings
from illava_cli.vllm.version import check_version

OURS = {  # of vLLM's options
    "--model": "name it before --, with -m",
    "--generation-config": "answers are decoded as the question says",
    "--override-generation-config": "before --, with --temperature and the like",
    "--hf-overrides": "it names the classes that merge",
    "--video-pruning-rate": "it has vLLM ask where tokens were",
    "--host": "before --",
    "--port": "before --",
    "--served-model-name": "before --, with --served-name",
    "--dtype": "before --",
    "--api-key": "before --",
}
NOT_ASKED = {  # with which nobody could ask at the address
    "--headless": "starts no server that could be asked",
    "--uds": "has the server listen elsewhere",
    "--ssl-keyfile": "has the server ask for TLS",
    "--ssl-certfile": "has the server ask for TLS",
}
KEY_VARIABLE = "VLLM_API_KEY"
PATIENCE_S = 1800.0  # for a large model to be read and compiled
ENDING_S = 60.0
ENDED_S = 2.0  # for one that has failed a request to be gone


def server_command(
    config: Config,
    name: str,
    place: tuple[str, int],
    rest: Sequence[str],
    note: Callable[[str], None],
    keys: Sequence[str] = (),
) -> list[str]:
    """The program that serves the model of a configuration.

    Args:
        name: under which it is asked for.
        place: host and port.
        rest: further arguments of vLLM's.
        keys: that open it.

    Raises:
        UsageError: settings that vLLM cannot be told here.
    """
    check_version()
    refuse_flags(rest, OURS, "{flag} is given by illava: {why}")
    settings = engine_settings(config, note)
    command = [sys.executable, "-m", "illava_cli.vllm.command", settings.pop("model")]
    command.append("--trust-request-mm-kwargs")
    told = settings | {"served_model_name": name, "host": place[0], "port": place[1]}
    for option, value in told.items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        command += [f"--{option.replace('_', '-')}", text]
    return [*command, *(["--api-key", *keys] if keys else []), *rest]


def refuse_flags(rest: Sequence[str], refused: Mapping[str, str], line: str) -> None:
    """Refuse flags among vLLM's, also as its parser takes them: begun (`--por`), or of a part (`--a.b`).

    Raises:
        UsageError: `line`, with `flag` and `why`.
    """
    for argument in rest:
        begun = argument.partition("=")[0].partition(".")[0].replace("_", "-")
        for flag, why in refused.items():
            if begun == flag or (len(begun) > 2 and flag.startswith(begun)):
                raise UsageError(line.format(flag=flag, why=why))


def become(command: Sequence[str]) -> None:
    """Let vLLM go on in this process's place: signals and the exit code are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], list(command))


@contextmanager
def running(command: Sequence[str], port: int, key: str = "") -> Iterator[str]:
    """A server's address until the end, also of this process.

    Args:
        key: that opens it.

    Raises:
        IllavaError: it ended before it could answer, or while it was asked.
    """
    own = dict(start_new_session=True, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno())
    env = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    env |= {KEY_VARIABLE: key} if key else {}
    own["env"] = {"VLLM_LOGGING_LEVEL": "WARNING"} | env | {ENDS_WITH: str(os.getpid())}
    with subprocess.Popen(list(command), stdin=subprocess.DEVNULL, **own) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            answered(server, f"{url}/health")
            with _its_end_is_told(server):
                yield url
        finally:
            _end(server)


@contextmanager
def _its_end_is_told(server: subprocess.Popen) -> Iterator[None]:
    """What failed as the server was gone says so."""
    try:
        yield
    except IllavaError as error:
        with suppress(subprocess.TimeoutExpired):  # it may be about to end
            code = server.wait(ENDED_S)
            raise IllavaError(f"{error}: vLLM ended with code {code}, its messages say why") from None
        raise


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answered(server: subprocess.Popen, address: str) -> None:
    """Wait until a server answers there.

    Raises:
        IllavaError: it ended before it did, or it takes too long.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE_S:
        if (code := server.poll()) is not None:
            raise IllavaError(f"vLLM ended with code {code} before it could answer: its messages say why")
        try:
            with direct.open(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise IllavaError(f"vLLM did not answer within {PATIENCE_S:g} s")


def _end(server: subprocess.Popen) -> None:
    """It ends the processes that it has started; what is left of them is killed."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(ENDING_S)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
