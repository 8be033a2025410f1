"""`docs/reference` is what the code says."""

import re
from importlib.metadata import version

import pytest

from tests.processes import ROOT

pytest.importorskip("griffe", reason="needs griffe: pip install 'illava[docs]'")
import make_reference
from reference_pages import table


def pinned(name: str) -> str:
    return re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("name", sorted(make_reference.PAGES))
def test_a_page_is_what_the_code_says(name):
    if name == "commands" and version("typer") != pinned("typer"):
        pytest.skip(f"another Typer words its own help otherwise: this page is of {pinned('typer')}")
    if stale := make_reference.stale(name):
        pytest.fail(stale, pytrace=False)


def test_a_stale_page_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(make_reference, "FOLDER", tmp_path)
    (tmp_path / "settings.md").write_text("# Settings\n")
    assert make_reference.stale("settings") == "docs/reference/settings.md is stale: run make reference"


def test_every_setting_is_described():
    text = (make_reference.FOLDER / "settings.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert not [row[0] for row in rows if not row[3].strip(" |")]


def test_columns_in_which_nothing_stands_are_left_out():
    assert table(("a", "b", "c"), [("1", "", "x|y"), ("2", "", "")]).splitlines() == [
        "| a | c |",
        "| --- | --- |",
        r"| 1 | x\|y |",
        "| 2 |  |",
    ]
