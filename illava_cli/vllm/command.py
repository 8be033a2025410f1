"""`python -m illava_cli.vllm.command ...`: the command `vllm serve`, whatever name vLLM was installed under.

vLLM's own entry asks for the version of a package `vllm`, which a build for a CPU is not; its API server
alone knows neither other nodes (`--headless`) nor several engines.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from illava_cli.errors import IllavaError

ENDS_WITH = "ILLAVA_VLLM_ENDS_WITH"  # the process with which a server ends, where it serves one alone
POLL_S = 1.0
ENDING_S = 20.0  # in the midst of starting vLLM may not heed a signal at all


def main() -> None:
    if parent := os.environ.pop(ENDS_WITH, None):
        _end_with(int(parent))
    # here, as worker processes import this file too and need none of it
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser, serve = FlexibleArgumentParser(prog="vllm"), ServeSubcommand()
    serve.subparser_init(parser.add_subparsers(dest="subparser", required=True))
    args = parser.parse_args([serve.name, *sys.argv[1:]])
    serve.validate(args)
    try:
        serve.cmd(args)
    except IllavaError as error:
        print(f"illava: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _end_with(parent: int) -> None:
    """End when a process does, however it ends: nobody else would end this one, which leads its group."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ENDING_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="illava-parent", daemon=True).start()


if __name__ == "__main__":
    main()
