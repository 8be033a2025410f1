"""`--engine`: who runs the model of a command, and what is passed on to it behind `--`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import typer

from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.config.settings import Config

ENGINES = ("illava", "vllm")
PASSED_ON = "passed on"  # where a context keeps it

Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="illava|vllm",
        help="Who runs the model; what follows -- goes to vLLM (docs/vllm.md).",
    ),
]


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those for vLLM where it is the engine: all behind `--`."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    named = "--engine=vllm" in own or ("--engine", "vllm") in pairwise(own)
    return (own, arguments[len(own) + 1 :]) if named else (arguments, [])


def passed_on(context: typer.Context) -> list[str]:
    """What the command that runs passes on."""
    return context.meta.get(PASSED_ON, [])


def check_engine(name: str, context: typer.Context, without: tuple[str, ...] = ()) -> None:
    """Refuse an engine that there is none of, and options that another has.

    Args:
        without: parameters of illava's own engine.
    """
    if name not in ENGINES:
        raise UsageError(f"--engine {name!r}: expected {' or '.join(ENGINES)}")
    if name == "illava":
        return
    for one in without:
        source = context.get_parameter_source(one)
        if source is not None and source.name == "COMMANDLINE":
            flag = f"--{one.replace('_', '-')}"
            raise UsageError(f"{flag} does nothing with --engine vllm: its own options go after --")


def tell_changes(config: Config, say) -> None:
    """Say what of a preset is done otherwise by vLLM.

    Raises:
        UsageError: it cannot be done.
    """
    from illava_cli.engine.resolved import planned
    from illava_cli.models.without_decoder import family_of_files
    from illava_cli.vllm.launch import folder_of
    from illava_cli.vllm.schedules import note

    family = family_of_files(folder_of(config, say), config.model.schedule)
    _, schedules = planned(family, config, say)
    if changed := note(schedules):
        say(changed)
