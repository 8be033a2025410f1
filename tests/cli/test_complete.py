"""What Tab offers in a chat."""

from __future__ import annotations

import pytest

from illava_cli.cli.complete import completions
from illava_cli.cli.repl import COMMANDS

SETTINGS = ["generation.max_tokens", "generation.seed", "media.fps"]


def offered(line: str) -> list[str]:
    """The whole lines that Tab could make of `line`."""
    start, found = completions(line, COMMANDS, SETTINGS)
    return [line[:start] + text for text in found]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("cat.png", "my cat.png", "it's.png", ".hidden", "deep dir/x.png", "docs/y.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/s", ["/system ", "/set ", "/stats", "/save "]),
        ("what is", []),
        ("", []),
        ("/image c", ["/image cat.png"]),
        ("/video d", ["/video 'deep dir/", "/video docs/"]),
        ("/image my", ["/image 'my cat.png'"]),
        ("/image 'my c", ["/image 'my cat.png'"]),
        ('/image "my c', ['/image "my cat.png"']),
        ("/image my\\ c", ["/image 'my cat.png'"]),
        ("/image it", ['/image "it\'s.png"']),
        ("/image 'deep dir/", ["/image 'deep dir/x.png'"]),
        ("/image cat.png do", ["/image cat.png docs/"]),
        ("/save docs/", ["/save docs/y.png"]),
        ("/image .h", ["/image .hidden"]),
        ("/image ~/c", ["/image ~/cat.png"]),
        ("/image nowhere/x", []),
        ("/set gen", ["/set generation.max_tokens=", "/set generation.seed="]),
        ("/merge o", ["/merge on", "/merge off"]),
        ("/stats x", []),
    ],
)
def test_completions(line, expected):
    assert offered(line) == expected


def test_hidden_files_only_when_asked_for():
    assert not any("hidden" in line for line in offered("/image "))
