"""docs/serve.md: what it shows runs against a real server, and what it lists is all that there is."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from contextlib import chdir, redirect_stdout

import pytest
import yaml

from illava_cli.openai import chat, options, responses
from illava_cli.openai.errors import STATUS, TYPES
from tests.documented import blocks, served
from tests.needs import require
from tests.processes import ROOT, run
from tests.serve.flags import flags, parsed

DOC = ROOT / "docs" / "serve.md"
TEXT = DOC.read_text(encoding="utf-8")
BLOCKS = blocks(DOC)
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language == "sh"]
ADDRESS = "http://localhost:8000"
NEEDS = {"from openai": "openai", "langchain_openai": "LangChain", "response_format": "llguidance"}


def at(block):
    return f"line {block.line}"


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables of a section."""
    section = re.split(r"^#+ ", TEXT.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader stands: the sample media, and llm's settings."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("shapes.jpg", "shapes.mp4"):
        shutil.copy(ROOT / "illava_cli" / "assets" / name, folder)
    return folder


@pytest.fixture(scope="module")
def printed(real, folder):
    """What each Python block printed that has what it needs, run one after another as they are read."""
    require("openai")
    space, found = {"__name__": "reader"}, {}
    for block in PYTHON:
        try:
            need(block.text)
        except pytest.skip.Exception:
            continue
        out = io.StringIO()
        with chdir(folder), redirect_stdout(out):
            exec(compile(block.text.replace(ADDRESS, real.url), f"{DOC.name}:{block.line}", "exec"), space)
        found[block] = out.getvalue()
    return found


def need(text: str) -> None:
    require(*(name for words, name in NEEDS.items() if words in text))


@pytest.mark.parametrize("block", PYTHON, ids=at)
def test_python_does_what_it_says(printed, block):
    need(block.text)
    following = BLOCKS[BLOCKS.index(block) + 1]
    if following.language == "json":
        assert json.loads(printed[block]) == json.loads(following.text)
    else:
        assert block.said
        assert printed[block].splitlines() == block.said


def seen(real) -> float:
    """Pictures and clips that the server was sent."""
    return sum(value for name, value in real.figures().items() if name.startswith("media_total"))


@pytest.mark.needs("curl", "bash")
@pytest.mark.parametrize("block", [b for b in SHELL if not b.text.startswith("illava serve")], ids=at)
def test_the_shell_s_commands_answer(real, folder, block):
    if block.text.startswith("llm"):
        require("llm")
        settings = next(b.text for b in BLOCKS if b.language == "yaml" and "model_id" in b.text)
        (folder / "extra-openai-models.yaml").write_text(settings.replace(ADDRESS, real.url))
    before = seen(real)
    script = f'llm() {{ "{sys.executable}" -m llm "$@"; }}\n{block.text.replace(ADDRESS, real.url)}'
    environ = os.environ | {"LLM_USER_PATH": str(folder)}
    done = run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environ)
    assert done.returncode == 0, done.stderr
    if block.text.startswith("llm"):  # whose order of words and picture `tiny` has not learnt
        assert seen(real) == before + 1
    else:
        assert "circle" in done.stdout


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    "arguments", [a for page in PAGES for a in served(page.read_text(encoding="utf-8"))], ids=" ".join
)
def test_every_command_is_one_that_the_program_takes(arguments):
    parsed(arguments)


def test_every_flag_is_described_and_no_other():
    said = set(re.findall(r"(?<![\w-])(--[a-z-]+[a-z])", TEXT.split("## Flags")[1]))
    own = {name for name in flags() if name.startswith("--") and not name.startswith("--no-")}
    assert said == own - {"--help"}


def test_defaults_are_those_of_the_program():
    ours = parsed([])
    for row in rows("Flags"):
        said = dict(zip(re.findall(r"--([a-z-]+)", row[0]), row[1].split(", "), strict=False))
        for name, value in said.items():
            default = ours.get(name.replace("-", "_"))
            if value and value[0].isdigit() and default is not None:
                assert str(default).removesuffix(".0") == value, name


def test_every_field_of_a_request_is_described():
    fields = {cell for row in rows("Options") for cell in names(row[:1])}
    assert fields == {*options.OURS, *options.BESIDE}
    for name in (*chat.KNOWN, *responses.TOKENS):
        if name not in ("model", "messages"):
            assert f"`{name}`" in TEXT, name


def test_every_error_is_described():
    table = rows("Errors")[1:]
    said = {(row[0], code) for row in table for code in names([row[2]]) or {""}}
    source = "".join(path.read_text() for path in (ROOT / "illava_cli").glob("*/*.py"))
    codes = set(re.findall(r"\bcode=\"(\w+)\"", source)) | {code for _, code in STATUS.values() if code}
    assert {code for _, code in said} - {""} == codes
    assert {(str(status), code or "") for status, code in STATUS.values()} <= said
    kinds = {row[0]: row[1].strip("`") for row in table}
    for status, kind in kinds.items():
        number = int(status)
        assert kind == TYPES.get(number, "invalid_request_error" if number < 500 else "server_error")


def test_every_figure_is_described(real):
    said = names([row[0] for row in rows("Metrics")])
    heads = re.findall(r"^# TYPE illava_(\w+) (\w+)", real.get("/metrics").text, re.MULTILINE)
    assert said == {name for name, kind in heads if not name.endswith("_created")}


def test_every_endpoint_is_described(real):
    said = names([row[0] for row in rows("Endpoints")])
    paths = real.get("/openapi.json").json()["paths"]
    for path in paths:
        assert any(path.partition("{")[0].rstrip("/") in one for one in said), path
    for one in said:
        path = one.removeprefix("GET ").removeprefix("POST ").replace("NAME", "tiny").replace("ID", "x")
        known = real.get(path)
        assert "there is nothing here" not in known.text, path


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=at)
def test_yaml_is_yaml(block):
    assert yaml.safe_load(block.text)
