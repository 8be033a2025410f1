"""The Python API, from its docstrings: read by griffe, without an import of what they describe."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

from reference_pages import MADE

PACKAGE = Path(__file__).parents[2] / "illava_cli"
INTRO = """# Python API

[From Python](../python.md) shows it at work. `illava_cli` exports `load`, `Session`, `Generation` and the
[settings](settings.md) (`Config`, `Reduction`, `ModelOptions`, `MediaOptions`, `GenerationOptions`)."""
# what is described: a module, and names in it
DESCRIBED = {
    "engine.opening": ("load",),
    "engine.session": ("Session",),
    "engine.chat": ("Chat",),
    "engine.stream": ("Stream", "AsyncStream"),
    "engine.record": ("Generation", "Usage", "VisualUsage", "Timings", "MediaRecord"),
    "engine.request": ("Request",),
    "config.sources": ("resolve",),
    "vllm.launch": ("engine_settings",),
}
# what others of the package ask of them
INNER = {
    "Session": "asking documents family features given guide min_visual_tokens on_note passes rules runner "
    "schedules turn",
    "Chat": "session system switch",
}
WIDEST = 100
STARS = {griffe.ParameterKind.var_keyword: "**", griffe.ParameterKind.var_positional: "*"}
TEXT, PARAMETERS, RAISES = (getattr(griffe.DocstringSectionKind, n) for n in ("text", "parameters", "raises"))


def page() -> str:
    """All of it."""
    logging.getLogger("griffe").setLevel(logging.ERROR)
    parts = [MADE, INTRO]
    for module, names in DESCRIBED.items():
        found = _module(module)
        for name in names:
            thing = found.members[name]
            parts += [f"## {name}", _import(module, name), *_thing(thing)]
    parts += ["## Errors", _prose(_module("errors")), *_errors(_module("errors"))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _module(name: str) -> griffe.Module:
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
    return griffe.visit(name, path, path.read_text(encoding="utf-8"))


def _import(module: str, name: str) -> str:
    public = {"load", "Session", "Generation"}
    return f"`from illava_cli import {name}`" if name in public else f"`illava_cli.{module}.{name}`"


def _thing(thing: griffe.Class | griffe.Function) -> Iterator[str]:
    if isinstance(thing, griffe.Function):
        yield _signature(thing)
        yield from _docs(thing)
        return
    sections = thing.docstring.parse("google")
    yield from (section.value for section in sections if section.kind is TEXT)
    said = {
        one.name: one.description
        for section in sections
        if section.kind is PARAMETERS
        for one in section.value
    }
    hidden = INNER.get(thing.name, "").split()
    public = [m for m in thing.members.values() if not m.name.startswith("_") and m.name not in hidden]
    if values := [m for m in public if m.is_attribute]:
        yield "\n".join(_value(one, said.get(one.name, "")) for one in values)
    for method in public:
        if method.is_function and method.docstring:
            yield f"### {thing.name}.{method.name}"
            yield _signature(method)
            yield from _docs(method)


def _value(one: griffe.Attribute, said: str) -> str:
    said = one.docstring.value if one.docstring else said
    return f"- `{one.name}: {one.annotation}`" + (f": {' '.join(said.split())}" if said else "")


def _signature(function: griffe.Function) -> str:
    """As it is called, a line a parameter where one line would be too long."""
    spelled: list[str] = []
    for one in function.parameters:
        if one.name == "self":
            continue
        if one.kind is griffe.ParameterKind.keyword_only and "*" not in spelled:
            spelled.append("*")
        stars = STARS.get(one.kind, "")
        default = "" if one.default is None or stars else f" = {one.default}"
        spelled.append(f"{stars}{one.name}: {one.annotation}{default}")
    returned = f" -> {function.returns}" if function.returns else ""
    start = "async " if "async" in function.labels else ""
    line = f"{start}{function.name}({', '.join(spelled)}){returned}"
    if len(line) > WIDEST:
        line = f"{start}{function.name}(\n    " + ",\n    ".join(spelled) + f",\n){returned}"
    return f"```python\n{line}\n```"


def _docs(thing: Any) -> Iterator[str]:
    if thing.docstring is None:
        return
    for section in thing.docstring.parse("google"):
        if section.kind is TEXT:
            yield section.value
        elif section.kind is PARAMETERS:
            yield "\n".join(f"- `{one.name}`: {' '.join(one.description.split())}" for one in section.value)
        elif section.kind is RAISES:
            yield "Raises:"
            yield "\n".join(
                f"- {_kinds(one.annotation)}: {' '.join(one.description.split())}" for one in section.value
            )


def _kinds(annotation: Any) -> str:
    return ", ".join(f"`{name}`" for name in re.findall(r"\w+", str(annotation)))


def _prose(module: griffe.Module) -> str:
    return module.docstring.value


def _errors(module: griffe.Module) -> Iterator[str]:
    yield "All are in `illava_cli.errors`."
    lines = []
    for one in module.classes.values():
        code = one.members.get("exit_code")
        ends = f" Exit code {code.value}." if code is not None else ""
        lines.append(f"- `{one.name}`: {' '.join(one.docstring.value.split())}{ends}")
    yield "\n".join(lines)
