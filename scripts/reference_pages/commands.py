"""The commands, from Typer: what each does, and its flags as `--help` has them."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any

from reference_pages import MADE, table

INTRO = """# Commands

What `illava COMMAND --help` says, on one page. Most commands take the [common flags](#common-flags) besides
their own, which give the most used [settings](settings.md); `--set` gives any."""


def page() -> str:
    """All of it."""
    import typer

    from illava_cli.cli.app import app
    from illava_cli.cli.commands import COMMANDS, Announced
    from illava_cli.cli.options import ModelFlags

    common = _common(
        Announced("run", *COMMANDS["run"]).command(), {field.name for field in fields(ModelFlags)}
    )
    program = typer.main.get_command(app)
    parts = [MADE, INTRO, _section("illava", program, {}, 2)]
    for name, about in COMMANDS.items():
        command = Announced(name, *about).command()
        parts.append(_section(f"illava {name}", command, common, 2))
        for below, one in getattr(command, "commands", {}).items():
            parts.append(_section(f"illava {name} {below}", one, common, 3))
    parts += ["## Common flags", _flags(list(common.values()))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _common(command: Any, names: set[str]) -> dict[str, Any]:
    return {one.name: one for one in command.params if one.name in names}


def _section(title: str, command: Any, common: dict[str, Any], level: int) -> str:
    own = [one for one in command.params if not _is(common.get(one.name), one) and not one.hidden]
    arguments = " ".join(_spelling(one) for one in own if not one.opts[0].startswith("-"))
    usage = " ".join(filter(None, (title, arguments, "[FLAGS]" if command.params else "")))
    parts = [f"{'#' * level} {title}", f"```\n{usage}\n```", _prose(command.help or "")]
    taken = [name for name, flag in common.items() if any(_is(flag, one) for one in command.params)]
    few = [common[name] for name in taken] if len(taken) <= len(common) // 2 else []
    parts.append(_flags(own + few))
    if len(taken) > len(few):
        missing = [_name(flag) for name, flag in common.items() if name not in taken]
        but = f", but for {', '.join(missing)}" if missing else ""
        parts.append(f"Also the [common flags](#common-flags){but}.")
    return "\n\n".join(part for part in parts if part)


def _is(common: Any, own: Any) -> bool:
    """Whether a command's flag is the common one of its name."""
    return common is not None and (common.opts, common.help) == (own.opts, own.help)


def _flags(parameters: list[Any]) -> str:
    if not parameters:
        return ""
    rows = [
        (_code(_spelling(one)), _default(one), _prose(one.help or "") + _bounds(one)) for one in parameters
    ]
    return table(("flag", "default", ""), rows)


def _code(text: str) -> str:
    """Within a table, where every reader of Markdown has its own way with a bar in code."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _spelling(one: Any) -> str:
    """As `-m, --model NAME`; arguments as `FILE`."""
    if not one.opts[0].startswith("-"):
        return f"{one.metavar or one.name.upper()}{'...' if one.nargs == -1 else ''}"
    spelled = ", ".join(one.opts) + "".join(f"/{name}" for name in one.secondary_opts)
    return spelled if one.is_flag else f"{spelled} {one.metavar or one.name.upper()}"


def _name(one: Any) -> str:
    return f"`{max(one.opts, key=len)}`"


def _default(one: Any) -> str:
    if one.required:
        return "must be given"
    value = one.default
    if value is None or value is False or value == "" or value in ((), []):
        return ""
    return "on" if value is True else f"`{value}`"


def _bounds(one: Any) -> str:
    """The least and the most, where they are bounded; earlier releases of Typer keep them with the type."""
    holder = getattr(one, "type", one)
    found = [("at least", getattr(holder, "min", None)), ("at most", getattr(holder, "max", None))]
    said = ", ".join(f"{words} {value:g}" for words, value in found if value is not None)
    return f" ({said})" if said else ""


def _prose(text: str) -> str:
    """Help as paragraphs; what stands in angle brackets is no HTML."""
    return re.sub(r"<(\w+)>", r"`<\1>`", inspect.cleandoc(text))
