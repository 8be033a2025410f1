"""The flags of `illava serve`, as the program itself reads them."""

from __future__ import annotations

from typing import Any

from illava_cli.cli.commands import COMMANDS, Announced
from illava_cli.cli.engines import split


def command() -> Any:
    """The command itself."""
    return Announced("serve", *COMMANDS["serve"]).command()


def flags() -> set[str]:
    """Every one that its help shows."""
    options = (one for one in command().params if one.param_type_name == "option")
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What arguments mean.

    Raises:
        Exception: there is no such flag, or no such value.
    """
    own, _ = split(list(arguments))
    return command().make_context("serve", own).params
