"""`python -m illava_cli.vllm.command ...`: the command `vllm serve`, whatever name vLLM was installed under.

vLLM's own entry asks for the version of a package `vllm`, which a build for a CPU is not; its API server
alone knows neither other nodes (`--headless`) nor several engines.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from illava_cli.errors import IllavaError

ENDS_WITH = "ILLAVA_VLLM_ENDS_WITH"  # the process with which a server ends, where it serves one alone
PR_SET_PDEATHSIG = 1


def main() -> None:
    # here, as worker processes import this file too and need none of it
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    if parent := os.environ.pop(ENDS_WITH, None):
        _end_with(int(parent))
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
    """End when a process does, however it ends: nobody would end this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended already
        sys.exit(1)


if __name__ == "__main__":
    main()
