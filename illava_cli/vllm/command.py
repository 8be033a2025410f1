"""`python -m illava_cli.vllm.command ...`: the command `vllm serve`, whatever name vLLM was installed under.

vLLM's own entry asks for the version of a package `vllm`, which a build for a CPU is not; its API server
alone knows neither other nodes (`--headless`) nor several engines.
"""

from __future__ import annotations

import sys


def main() -> None:
    # here, as worker processes import this file too and need none of it
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser, serve = FlexibleArgumentParser(prog="vllm"), ServeSubcommand()
    serve.subparser_init(parser.add_subparsers(dest="subparser", required=True))
    args = parser.parse_args([serve.name, *sys.argv[1:]])
    serve.validate(args)
    serve.cmd(args)


if __name__ == "__main__":
    main()
