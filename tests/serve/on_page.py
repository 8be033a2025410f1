"""What a person does on the server's page, and what is to be seen there."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import numpy as np
from PIL import Image

from tests.browser import Browser
from tests.serve.fake_server import FakeServer

IDLE = "document.getElementById('stop').hidden"
SAID = "[...document.querySelectorAll('.turn:last-child .said')].map(p => p.textContent)"
TRAY = "[...document.querySelectorAll('#tray li')].map(li => li.title)"
TROUBLE = "document.getElementById('trouble').innerText"
QUESTION = "document.getElementById('question')"
SLIDER = "document.getElementById('share')"
WIDTH = "document.documentElement.scrollWidth"


def png(width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    """A picture of noise: it hardly compresses."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def transfer(*files: tuple[str, str, bytes], text: str = "") -> str:
    """An expression that makes a DataTransfer of files: name, type, bytes."""
    given = [[name, kind, base64.b64encode(data).decode()] for name, kind, data in files]
    return (
        "(() => { const made = new DataTransfer();"
        f"for (const [name, type, data] of {json.dumps(given)}) made.items.add("
        "new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, { type }));"
        f"const text = {json.dumps(text)};"
        "if (text) ['text/plain', 'text/html'].forEach(kind => made.setData(kind, text));"
        "return made })()"
    )


def drop(page: Browser, *files: tuple[str, str, bytes]) -> None:
    """Drag files over the page and let them go there."""
    page.js(
        "(dataTransfer => ['dragover', 'drop'].forEach(kind => document.body.dispatchEvent("
        "new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }))))"
        f"({transfer(*files)})"
    )


def paste(page: Browser, *files: tuple[str, str, bytes], text: str = "") -> bool:
    """Whether the page leaves what is pasted to the browser."""
    options = "{ clipboardData, bubbles: true, cancelable: true }"
    return page.js(
        f"(clipboardData => {QUESTION}.dispatchEvent(new ClipboardEvent('paste', {options})))"
        f"({transfer(*files, text=text)})"
    )


def write(page: Browser, text: str) -> None:
    page.js(f"{QUESTION}.focus()")
    page.press(*text)


def ask(page: Browser, text: str = "What is it?") -> None:
    """Ask, and wait for the end of the answer."""
    turns = page.js("document.querySelectorAll('.turn').length")
    write(page, text)
    page.press("enter")
    page.wait(f"document.querySelectorAll('.turn').length === {turns + 1} && {IDLE}")


def click(page: Browser, words: str) -> None:
    """Click a button of the last turn."""
    assert page.js(
        "(found => found && (found.click(), true))([...document.querySelectorAll('.turn:last-child button')]"
        f".find(b => b.checkVisibility() && !b.disabled && b.innerText === {json.dumps(words)}))"
    ), f"no such button: {words}"


def slide(page: Browser, percent: int) -> None:
    page.js(f"({SLIDER}.value = {percent}, {SLIDER}.dispatchEvent(new Event('input')))")


def media_of(body: dict[str, Any]) -> list[str]:
    """The addresses of a request's media, in their order."""
    parts = [part for m in body["messages"] if isinstance(m["content"], list) for part in m["content"]]
    return [part[part["type"]]["url"] for part in parts if part["type"] != "text"]


def wait_for_requests(page: Browser, server: FakeServer, count: int) -> None:
    end = time.monotonic() + 60
    while len(server.asked) < count:
        assert time.monotonic() < end, f"{len(server.asked)} of {count} requests came"
        page.js("1")


def forgive(page: Browser) -> None:
    """What a browser itself writes of a refused request is no fault of the page."""
    assert [line for line in page.console() if "Failed to load resource" not in line] == []
