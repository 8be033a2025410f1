"""A session without a model, to test the command line around it.

`python -m tests.cli.fakes ARGUMENTS` is the whole `illava` program on it, for what only a process shows:
exit codes, pipes, signals, terminals.
"""

from __future__ import annotations

import copy
import sys
import threading
import types

from illava_cli.config import Config, validate
from illava_cli.config.sources import parse_setting
from illava_cli.engine.record import Generation, MediaRecord, Timings, Usage, VisualUsage
from illava_cli.errors import ContextError, MediaError, UsageError

sessions: list[FakeSession] = []  # every session made in this process


def generation(text: str = "a red square", config: Config | None = None, **changes) -> Generation:
    values = {
        "text": text,
        "finish_reason": "stop",
        "model": "fake",
        "preset": config.preset if config else "paper",
        "seed": 0,
        "config_hash": config.hash() if config else "0" * 12,
        "usage": Usage(300, 12, VisualUsage(729, 361, 361, 253, 28, 20)),
        "timings": Timings(ttft_s=0.31, decode_s=0.49),
        "peak_bytes": 1_200_000_000,
    }
    return Generation(**(values | changes))


class FakeSession:
    """Answers with the question, word by word. What a question starts with decides how it goes:

    `fail`: an expected failure; `crash`: a bug; `slow`: words until cancelled; `note`: a note besides;
    `long`: a clip of 512 frames.
    """

    def __init__(self, config: Config, on_note=None):
        self.config = config
        self.merging = True
        self.context_length = 32768
        self.calls: list[tuple] = []
        self.on_note = on_note
        on_note("downloading fake (1 kB)")
        sessions.append(self)

    def ask(
        self, prompt, images=(), videos=(), on_text=None, cancel=None, id="", progress=None
    ) -> Generation:
        self.calls.append((prompt, list(images), list(videos)))
        if prompt.startswith("fail"):
            raise ContextError("the prompt is too long: shorten it")
        if prompt.startswith("crash"):
            raise ValueError("several\nlines")
        if prompt.startswith("long"):
            self.listener = progress
            for done in (1, 256, 512) if progress else ():
                progress("read", done, 512)
        if prompt.startswith("slow"):
            text = self._slowly(on_text, cancel)
        else:
            text = f"You said {prompt}"
            for word in text.split(" ") if on_text else ():
                on_text(word if word == "You" else " " + word)
        media = tuple(MediaRecord(source, "image", 4, 4) for source in images)
        notes = ("merging is off for so few tokens",) if prompt.startswith("note") else ()
        return generation(text, self.config, media=media, notes=notes, id=id)

    def _slowly(self, on_text, cancel: threading.Event) -> str:
        text = ""
        for _ in range(600):
            if cancel.is_set():
                break
            text += "word "
            if on_text:
                on_text("word ")
            cancel.wait(0.05)
        return text

    def chat(self, system=None) -> FakeChat:
        return FakeChat(self, system)

    def with_merging(self, on: bool) -> FakeSession:
        other = copy.copy(self)
        other.merging = on
        return other

    def updated(self, settings: list[str]) -> FakeSession:
        other = copy.copy(self)
        for setting in settings:
            changed = parse_setting(setting)
            if set(changed) - {"generation", "media"}:
                raise UsageError(f"{setting}: needs a reload")
            merged = other.config.model_dump()
            for group, values in changed.items():
                merged[group] |= values
            other.config = validate(Config, merged, "settings")
        return other


class FakeChat:
    cached_tokens = context_used = 400
    deepest_tokens = 250

    def __init__(self, session: FakeSession, system: str | None):
        self.session = session
        self.system = system
        self.messages: list[dict] = []

    def ask(self, prompt, images=(), videos=(), on_text=None, cancel=None) -> Generation:
        if any("broken" in source for source in images):
            raise MediaError("broken.png: not an image")
        answer = self.session.ask(prompt, images, videos, on_text, cancel)
        self.messages += [
            {"role": "user", "content": prompt, "images": list(images), "videos": list(videos)},
            {"role": "assistant", "content": answer.text, "images": [], "videos": []},
        ]
        return answer

    def switch(self, session: FakeSession) -> None:
        self.session = session

    def clear(self) -> None:
        self.messages = []


def module() -> types.ModuleType:
    """What stands in for `illava_cli.engine.opening`."""
    fake = types.ModuleType("illava_cli.engine.opening")
    fake.load = lambda *, config, on_note: FakeSession(config, on_note)
    return fake


if __name__ == "__main__":
    sys.modules["illava_cli.engine.opening"] = module()
    from illava_cli.cli.app import main

    sys.exit(main())
