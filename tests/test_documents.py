"""What README and docs name is there: extras, files, links, headings."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.processes import ROOT

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def text_of(path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path) -> set[str]:
    """Of a document's headings, as they are made where it is shown."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_extra_is_described():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    table = text_of(ROOT / "README.md").split("| extra |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    described = [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]
    assert sorted(described) == sorted(project["optional-dependencies"].keys() - {"dev"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_linked_is_there(path):
    for found in LINK.findall(text_of(path)):
        name, _, heading = next(filter(None, found)).partition("#")
        if re.match(r"https?:", name):
            continue
        target = path.parent / name if name else path
        assert target.exists(), name
        if heading:
            assert heading in anchors(target), f"{name}#{heading}"


def test_the_readme_is_short_enough_to_be_read():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150, "what is more belongs into docs/"


def test_the_walks_through_the_code_name_files_that_there_are():
    text = text_of(ROOT / "docs" / "architecture.md")
    steps = re.findall(r"^([a-z_]+/[\w/.]+\.py) ", text, re.MULTILINE)
    assert len(steps) > 20
    for name in steps:
        assert (ROOT / "illava_cli" / name).is_file(), name
