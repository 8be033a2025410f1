"""The commands: where each is, and what `illava --help` says of it.

The module of a command is imported when it runs, when what follows its name is completed, or when its own
help is shown: to say which commands there are takes none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from illava_cli.cli.engines import PASSED_ON, split
from illava_cli.cli.options import described

# by name: `module.function` or `module.app` of several below `illava_cli.cli`, and the first line of its help
COMMANDS = {
    "run": ("run.run", "Ask one question about images and videos."),
    "chat": ("chat.chat", "Talk about images and videos; /help lists the commands."),
    "batch": ("batch.batch", "Ask about many files, and write an answer for each."),
    "serve": ("serve.serve", "Answer over HTTP, in the form of OpenAI's API, with a page."),
    "bench": ("bench.app", "Measure speed and memory beside unmodified transformers."),
    "eval": ("eval.evaluate", "Measure what merging costs, on built-in or your own questions."),
    "tune": ("tune.tune", "Search the merging schedule that serves your own pictures best."),
    "compare": ("compare.compare", "Compare methods and models at equal shares of visual tokens."),
    "visualize": ("visualize.visualize", "Draw which tokens stay, what merged into what, and attention."),
    "doctor": ("doctor.doctor", "Report what is installed, what is missing and how to get it."),
    "models": ("models.app", "The models that -m takes."),
    "config": ("config_cmd.app", "Settings: show, check and describe them."),
}


class Announced(TyperCommand):
    """A command of which only the name and a line of help are there until it is wanted."""

    def __init__(self, name: str, place: str, help: str):
        super().__init__(name, help=help, rich_markup_mode=None)
        self._place = place

    def command(self) -> Any:
        """The command itself, or the group of several."""
        module, name = self._place.split(".")
        found = getattr(import_module(f"illava_cli.cli.{module}"), name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(rich_markup_mode=None, add_completion=False)
            alone.command(self.name)(described(found))
            found = alone
        return typer.main.get_command(found)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **options: Any) -> Any:
        """The context of the command itself, with which whoever asks for it goes on."""
        command = self.command()
        if options.get("resilient_parsing"):
            _take_as_written(command)
        args, rest = split(args)
        if parent is not None:
            parent.meta[PASSED_ON] = rest  # which contexts below share
        return command.make_context(info_name, args, parent, **options)


class Program(TyperGroup):
    """All commands."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        for name, (place, help) in COMMANDS.items():
            self.add_command(Announced(name, place, help))

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """As of any group."""
        if options.get("resilient_parsing"):
            _take_as_written(self)
        return super().make_context(*arguments, **options)


def _take_as_written(command: Any) -> None:
    """Has no value converted: the completion of a name needs none, and Typer loads pydantic for it."""
    listed = command.get_params

    def get_params(context: Any) -> list[Any]:
        parameters = listed(context)
        for parameter in parameters:
            parameter.process_value = lambda context, value: value
        return parameters

    command.get_params = get_params
    for below in getattr(command, "commands", {}).values():
        _take_as_written(below)
