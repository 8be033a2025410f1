"""The `illava` program: the table of commands, and the one place where exceptions become exit codes.

Commands raise `IllavaError` for what a user can mend and `typer.Exit` to end with a code; `main` turns
these and everything unexpected into one line on stderr. Imports here stay light: `illava --help` must not
wait for torch, so every command imports what it needs when it runs.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

import typer
from typer.main import get_command

from illava_cli.cli.commands import Program
from illava_cli.cli.options import DEBUG_VARIABLE, Debug, described, help_unless_subcommand
from illava_cli.cli.output import discard_output
from illava_cli.errors import IllavaError
from illava_cli.interrupts import INTERRUPTED, end_at_sigterm
from illava_cli.text import harmless, one_line

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="illava",
    cls=Program,
    # plain help: stdout never carries ANSI, and pages read the same everywhere
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from illava_cli import __version__

        typer.echo(f"illava {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
@described
def illava(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Ask vision-language models about images and videos, with token merging.

    Results go to stdout, everything else to stderr.
    """
    help_unless_subcommand(context)
    _refuse_a_folder_that_is_gone()


def _refuse_a_folder_that_is_gone() -> None:
    """Libraries ask for the working directory where one would not think of it, and fail each in its way."""
    try:
        os.getcwd()
    except OSError as error:
        raise IllavaError(
            f"the working directory is not there any more ({error.strerror}): cd to one that is"
        ) from None


def program() -> None:
    """`main` as a process, which ends without taking torch's modules apart: that would take a second."""
    code = 1

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
        os._exit(code)

    atexit.register(leave)  # before all others, so that it runs after them
    end_at_sigterm()
    code = main()


def main(arguments: list[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    if sys.stderr is None:
        # closed (`2>&-`): print would write to stdout, which carries results only
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        if sys.stdout is not None:
            # a name that is no valid UTF-8 must not end a run; as \udcXX it is still valid JSON
            encoding = None if sys.stdout.isatty() else "utf-8"
            sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
        code = get_command(app).main(args=arguments, prog_name="illava", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as error:  # SIGTERM, or a completion, by whose code the shell may go
        return error.code or 0
    except BrokenPipeError:
        # the reader has gone (`illava run ... | head -1`): nobody is left to tell
        discard_output()
        return 1
    except IllavaError as error:
        return _report(f"error: {error}", error.exit_code)
    except OSError as error:
        if error.errno not in DISK_FULL:
            return _internal_error(error)
        discard_output()
        where = f" ({error.filename})" if error.filename else ""
        return _report(f"error: {error.strerror}{where}: free some space and run again", 1)
    except Exception as error:
        if hasattr(error, "format_message"):
            return _bad_usage(error)
        return _internal_error(error)


def _bad_usage(error: Exception) -> int:
    """A mistake that the parser found; Typer has its own copy of click or not, by its version."""
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    message = _shortened(error.format_message()).rstrip(".")
    return _report(f"error: {message}{hint}", getattr(error, "exit_code", 2))


def _internal_error(error: Exception) -> int:
    message = f"internal error: {type(error).__name__}: {_shortened(error)}"
    hint = "" if os.environ.get(DEBUG_VARIABLE) else " (run again with --debug for the traceback)"
    return _report(message + hint, 1)


def _shortened(message: object, limit: int = 400) -> str:
    text = one_line(message)
    return text if len(text) <= limit else text[:limit] + "..."


def _report(message: str, code: int) -> int:
    """One line on stderr, after the traceback where --debug asks for it."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    print(harmless(f"illava: {message}"), file=sys.stderr)
    return code


if __name__ == "__main__":
    program()
