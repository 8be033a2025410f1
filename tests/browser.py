"""A headless Chromium for tests, driven over ChromeDriver's WebDriver protocol with the standard library."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import Process

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
KEYS = {
    "left": "\ue012",
    "up": "\ue013",
    "right": "\ue014",
    "down": "\ue015",
    "home": "\ue011",
    "tab": "\ue004",
}
KEYS |= {"pagedown": "\ue00f", "pageup": "\ue00e", "enter": "\ue007", "escape": "\ue00c", "shift": "\ue008"}
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for an element's id


class Browser:
    """One window. Closed by `close`, or at the end of a `with`."""

    def __init__(self, *more: str) -> None:
        """
        Args:
            more: of Chromium's own flags.
        """
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver = Process(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = next(
            found[1]
            for line in self._driver.stdout
            if (found := re.search(r"successfully on port (\d+)", line))
        )
        self._url = f"http://127.0.0.1:{port}/session"
        flags = [
            *FLAGS,
            *more,
            f"--user-data-dir={self._profile.name}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        options = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags, "binary": shutil.which("chromium")},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        try:
            found = self._call("POST", "", {"capabilities": {"alwaysMatch": options}})
        except BaseException:
            self._stop()
            raise
        self._url += f"/{found['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._call("DELETE", "")
        self._stop()

    def _stop(self) -> None:
        self._driver.terminate()
        with self._driver:
            pass
        self._profile.cleanup()

    def open(self, address: Path | str, drawn: str = "window.illava?.isDrawn") -> None:
        """Open a file, or an address, and wait until the page has drawn it; what came before is forgotten."""
        self.console(), self.requests()
        self._call("POST", "/url", {"url": address if isinstance(address, str) else address.as_uri()})
        self.wait(drawn)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self._call("POST", "/execute/sync", {"script": f"return ({expression})", "args": []})

    def wait(self, expression: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.js(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {expression}; {self.console()}")
            time.sleep(0.02)

    def press(self, *names: str, holding: str | None = None) -> None:
        """Press keys, by the names in KEYS or their character, on what has the focus."""
        actions = [
            {"type": kind, "value": KEYS.get(name, name)} for name in names for kind in ("keyDown", "keyUp")
        ]
        if holding:
            held = {"value": KEYS[holding]}
            actions = [{"type": "keyDown"} | held, *actions, {"type": "keyUp"} | held]
        self._act({"type": "key", "id": "keys", "actions": actions})

    def choose(self, selector: str, *files: Path) -> None:
        """Give files to a field for files."""
        path = f"/element/{self._element(selector)}/value"
        self._call("POST", path, {"text": "\n".join(map(str, files))})

    def point(self, x: float, y: float, pointer: str = "mouse", click: bool = False) -> None:
        """Move the pointer to a place of the window, in CSS pixels; `pointer` is mouse or touch."""
        actions: list[dict[str, Any]] = [{"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}]
        if click:
            actions += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._act(
            {"type": "pointer", "id": pointer, "parameters": {"pointerType": pointer}, "actions": actions}
        )

    @contextmanager
    def inside(self, selector: str) -> Iterator[None]:
        """What is done within this is done in the document of a frame."""
        self._call("POST", "/frame", {"id": {ELEMENT: self._element(selector)}})
        try:
            yield
        finally:
            self._call("POST", "/frame", {"id": None})

    def _element(self, selector: str) -> str:
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def emulate(self, width: int = 1280, height: int = 900, scale: float = 1, **features: str) -> None:
        """A window of another size, with media features such as `prefers_color_scheme="dark"`."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        chosen = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=chosen)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, path: Path, whole: bool = False) -> None:
        found = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def console(self) -> list[str]:
        """What the page has written to the console since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """Addresses on any network that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        asked = [
            m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(LOCAL)]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return self._call("POST", "/se/log", {"type": kind})

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", "/actions", {"actions": [source]})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None
