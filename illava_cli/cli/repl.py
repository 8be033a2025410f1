"""The conversation behind `illava chat`: what each line means and what it changes.

Knows no terminal: lines come in as strings, answers go out through `write`, remarks through `say`, so
that tests, pipes and terminals drive the same object.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from illava_cli.cli import render
from illava_cli.cli.messages import Messages
from illava_cli.cli.transcript import save
from illava_cli.errors import UsageError
from illava_cli.media import expand_sources, name_of
from illava_cli.media.sources import is_url, local_path
from illava_cli.text import near_miss

if TYPE_CHECKING:
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Session

COMMANDS = {
    "/image": ("PATH", "attach an image (path, URL or glob) to the next question"),
    "/video": ("PATH", "attach a video to the next question"),
    "/system": ("TEXT", "system prompt, before the first question; alone: show it"),
    "/set": ("KEY=VALUE", "change a setting (generation.*, media.*); alone: show them"),
    "/merge": ("on|off", "merge the tokens of new media or not; alone: show which"),
    "/stats": ("", "tokens, times and cache of the last answer"),
    "/clear": ("", "forget the conversation and what is attached"),
    "/save": ("FILE", "write the conversation as .json, .md or .txt"),
    "/help": ("", "this list"),
    "/exit": ("", "leave (also Ctrl-D)"),
}


class Repl:
    """One conversation: turns, what is attached to the next one, and the records of the answers."""

    def __init__(self, session: Session, messages: Messages, write: Callable[[str], None]):
        self.session = session
        self.messages = messages
        self.write = write
        self.chat = session.chat(system=session.config.generation.system)
        self.pending: dict[str, list[str]] = {"image": [], "video": []}
        self.answers: list[Generation] = []
        self.done = False

    def handle(self, line: str, cancel: threading.Event | None = None) -> None:
        """Does what `line` says: a command or a question.

        Raises:
            IllavaError: it could not be done; the conversation is as it was before.
        """
        line = line.strip()
        if not line:
            return
        if not line.startswith("/"):
            self.ask(line, cancel)
            return
        name, _, rest = line.partition(" ")
        if name not in COMMANDS:
            raise UsageError(f"unknown command {name}{near_miss(name, list(COMMANDS))} (/help lists them)")
        getattr(self, f"_{name[1:]}")(rest.strip())

    def attach(self, kind: str, sources: list[str]) -> None:
        """Adds media to the next question; missing files are refused here and now."""
        if "-" in sources:
            raise UsageError(f"/{kind} -: stdin is the conversation here; name a file")
        found = expand_sources(sources)
        self.pending[kind] += found
        self.messages.say(f"attached to the next question: {', '.join(map(name_of, found))}")

    def ask(self, prompt: str, cancel: threading.Event | None) -> None:
        """One turn, with what is attached; a failed turn leaves neither the turn nor the attachments."""
        images, videos = self.pending["image"], self.pending["video"]
        self.pending = {"image": [], "video": []}
        try:
            answer = self.chat.ask(prompt, images=images, videos=videos, on_text=self.write, cancel=cancel)
        except Exception:
            if images or videos:
                self.messages.say(f"no longer attached: {', '.join(map(name_of, images + videos))}")
            raise
        self.answers.append(answer)
        self.write("" if answer.text.endswith("\n") else "\n")
        self.messages.notes(answer.notes)

    # --- commands: each takes the rest of the line -----------------------------------------------

    def _image(self, rest: str) -> None:
        self.attach("image", sources(rest, "/image"))

    def _video(self, rest: str) -> None:
        self.attach("video", sources(rest, "/video"))

    def _system(self, rest: str) -> None:
        if not rest:
            self.messages.show(f"system prompt: {self.chat.system or 'the model has its own'}")
            return
        if any(message["role"] != "system" for message in self.chat.messages):
            raise UsageError("/system works before the first question only: /clear starts anew")
        self.chat.system = rest

    def _set(self, rest: str) -> None:
        if not rest:
            for key, value in settable(self.session.config).items():
                self.messages.show(f"{key}={value}")
            return
        if rest.partition("=")[0].strip() in ("system", "generation.system"):
            raise UsageError("/set system: use /system TEXT, before the first question")
        self._switch(self.session.updated([rest]))
        self.messages.say(f"set {rest}")

    def _merge(self, rest: str) -> None:
        if rest not in ("", "on", "off"):
            raise UsageError(f"/merge {rest}: expected on or off")
        if not rest:
            self.messages.show(f"merging is {'on' if self.session.merging else 'off'}")
            return
        self._switch(self.session.with_merging(rest == "on"))
        self.messages.say(f"merging is {rest} for new media")

    def _switch(self, session) -> None:
        self.session = session
        self.chat.switch(session)

    def _stats(self, rest: str) -> None:
        if not self.answers:
            self.messages.show("no answer yet")
            return
        for line in render.chat_statistics(self.answers[-1], self.chat):
            self.messages.show(line)

    def _clear(self, rest: str) -> None:
        self.chat.clear()
        self.answers.clear()
        self.pending = {"image": [], "video": []}
        self.messages.say("cleared")

    def _save(self, rest: str) -> None:
        names = [local_path(name) for name in words(rest, "/save")]
        if len(names) != 1:
            raise UsageError("/save takes one file name; put quotes around a name with spaces")
        save(Path(names[0]), self.session, self.chat, self.answers)
        self.messages.say(f"saved {names[0]}")

    def _help(self, rest: str) -> None:
        for name, (argument, text) in COMMANDS.items():
            self.messages.show(f"  {name + ' ' + argument:<16} {text}")
        self.messages.show("Everything else is a question. Ctrl-C stops an answer.")

    def _exit(self, rest: str) -> None:
        self.done = True


def words(rest: str, command: str) -> list[str]:
    """What stands after a command: one file that is there, as it is, or several quoted as in a shell."""
    if not rest:
        raise UsageError(f"{command} needs a path, for example {command} {COMMANDS[command][0]}")
    if os.path.exists(local_path(rest)):
        return [rest]
    try:
        return shlex.split(rest)
    except ValueError:
        raise UsageError(f"{command} {rest}: a quote is not closed") from None


def sources(rest: str, command: str) -> list[str]:
    """The sources after a command; a URL may hold blanks and quotes, where no other source follows it."""
    if not is_url(rest):
        return words(rest, command)
    try:
        first, *others = shlex.split(rest)
    except ValueError:
        return [rest]
    whole = "," in first or not first.lower().startswith("data:")
    if whole and all(is_url(other) or os.path.exists(local_path(other)) for other in others):
        return [first, *others]
    return [rest]


def settable(config: Any) -> dict[str, Any]:
    """The settings that a running session can change, by their dotted names."""
    groups = {"generation": config.generation, "media": config.media}
    return {
        f"{group}.{name}": value
        for group, options in groups.items()
        for name, value in options.model_dump(mode="json").items()
        if name != "system"  # /system sets it
    }
