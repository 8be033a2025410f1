"""The ranges in pyproject.toml end at what was tested: a newer release is let in by a test, not by hope."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import range_ends
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BOUNDED = ("torch", "transformers", "typer", "pydantic", "av", "ray")
# releases without a build for CPUs: identity and reference tests were run on their builds for GPUs, on a CPU
TRIED = {"torch": ("2.11.0", "2.14.1")}


def ranges() -> dict[str, Requirement]:
    texts = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    return {r.name: r for r in map(Requirement, texts)}


def pinned() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\S+)==(\S+)$", text, flags=re.MULTILINE))


def bounds(name: str) -> dict[str, Version]:
    return {s.operator: Version(s.version) for s in ranges()[name].specifier}


@pytest.mark.parametrize("name", BOUNDED)
def test_a_range_ends_with_the_minor_release_that_was_tested(name):
    newest = Version(TRIED[name][1] if name in TRIED else pinned()[name])
    assert bounds(name)["<"] == Version(f"{newest.major}.{newest.minor + 1}")


@pytest.mark.parametrize("name", TRIED)
def test_a_range_begins_with_the_release_that_was_tried(name):
    assert bounds(name)[">="] == Version(Version(TRIED[name][0]).public.rsplit(".", 1)[0])


@pytest.mark.parametrize("name", sorted(set(pinned()) & set(ranges())))
def test_what_is_pinned_for_tests_is_within_the_range(name):
    assert ranges()[name].specifier.contains(pinned()[name])


@pytest.mark.parametrize(
    ("end", "found", "why"),
    [
        ("oldest", "5.17.0", None),
        ("oldest", "5.17.1", "not ==5.17"),
        ("oldest", "5.24.0", "not ==5.17"),  # what lies below shines through
        ("newest", "5.24.3", None),
        ("newest", "5.23.0", "older than 5.24.0, with which the tests were run"),
        ("newest", "5.25.0", "not <5.25,>=5.17"),
    ],
)
def test_an_end_of_the_range_is_what_it_says(monkeypatch, end, found, why):
    monkeypatch.setattr(range_ends, "pinned", lambda: {"transformers": Version("5.24.0")})
    assert range_ends.fault(end, Requirement("transformers>=5.17,<5.25"), found) == why


def test_another_release_than_that_end_s_is_told_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(range_ends, "version", lambda name: "2.11.0" if name == "torch" else "0.0.1")
    assert range_ends.main("oldest", "--check") == 1
    said = capsys.readouterr().out
    assert "torch 2.11.0\n" in said
    assert "transformers 0.0.1: not ==" in said
