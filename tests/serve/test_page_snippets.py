"""What the server's page gives to copy runs, and asks what the page asked."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.processes import run
from tests.serve.on_page import QUESTION, address, ask, click, drop, png, slide

pytestmark = pytest.mark.needs("browser")
HARD = """It's "$HOME" `id` \\n \\u0041 $(id) ${file1} {a} 🙂 \\
JSON
EOF"""
A, B = ("it's a $pic.png", "image/png", png(seed=1)), ('b "2".png', "image/png", png(seed=2))


def copied(page, words: str) -> str:
    click(page, words)
    return page.js("document.querySelector('.code pre').textContent")


@pytest.fixture
def asked(page, server, tmp_path):
    """A page with two turns, three pictures (one of them twice), and hard words."""

    def go(key: str | None = None):
        opened = page()
        if key:
            server.key = key
            opened.js(f"sessionStorage.setItem('illava-key', '{key}')")
        drop(opened, A, B)
        ask(opened, "What is it?")
        slide(opened, 35)
        drop(opened, A)
        opened.js(f"{QUESTION}.value = {json.dumps(HARD)}")
        ask(opened, "")
        for name, _, data in (A, B):
            (tmp_path / name).write_bytes(data)
        return opened

    return go


def what_was_asked(server) -> dict:
    """The last request of the page, as one that is not streamed."""
    body = dict(server.bodies[-1])
    assert body.pop("stream") is True
    body.pop("stream_options")
    return body


@pytest.mark.needs("bash", "curl")
@pytest.mark.parametrize("key", [None, "sec$ret"])
def test_what_is_copied_for_curl_asks_the_same(asked, server, tmp_path, key):
    script = copied(asked(key), "Copy as curl")
    wanted = what_was_asked(server)
    assert address(A[2], "image/png") not in script
    assert run(["bash", "-n"], input=script).returncode == 0
    environment = os.environ | ({"ILLAVA_API_KEY": key} if key else {})
    done = run(["bash", "-eu"], input=script, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert '"choices"' in done.stdout
    assert server.bodies[-1] == wanted
    assert server.asked[-1]["headers"]["Content-Type"] == "application/json"
    assert ("ILLAVA_API_KEY" in script) is bool(key)


@pytest.mark.parametrize("key", [None, "secret"])
def test_what_is_copied_for_python_asks_the_same(asked, server, tmp_path, key):
    pytest.importorskip("openai", reason="needs openai: pip install openai")
    script = tmp_path / "ask.py"
    script.write_text(copied(asked(key), "Copy as Python"), encoding="utf-8")
    wanted = what_was_asked(server)
    assert run([sys.executable, "-m", "py_compile", str(script)]).returncode == 0
    environment = os.environ | ({"ILLAVA_API_KEY": key} if key else {})
    done = run([sys.executable, str(script)], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "A red circle above a blue square.\n"
    assert server.bodies[-1] == wanted


def test_a_text_without_media_needs_no_more_than_it_says(page):
    page = page()
    ask(page, "Hello")
    script = copied(page, "Copy as Python")
    assert "base64" not in script
    assert "import os" not in script
    assert "file1" not in copied(page, "Copy as curl")
    assert page.js("document.querySelectorAll('.code').length") == 1
    click(page, "Close")
    assert page.js("document.querySelector('.code')") is None


@pytest.mark.parametrize("is_secure", [True, False])
def test_what_is_copied_is_in_the_clipboard(page, server, is_secure):
    page = page()
    page.devtools(
        "Browser.grantPermissions",
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        origin=server.url,
    )
    if not is_secure:  # as on a page without TLS from another machine: scripts get no clipboard
        page.js("Object.defineProperty(navigator.clipboard, 'writeText', { value: undefined }) && 1")
    ask(page, "Hello")
    text = copied(page, "Copy as curl")
    page.wait("document.querySelector('.code .quiet').textContent")
    if is_secure:
        assert page.js("document.querySelector('.code .quiet').textContent") == "Copied."
        assert page.js("navigator.clipboard.readText()") == text
    else:
        assert page.js("getSelection().toString()") == text
