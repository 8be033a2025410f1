"""A model of ours as `llm` asks it."""

from __future__ import annotations

import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import llm
from pydantic import Field

from illava_cli.integrations.llm.rounds import TYPES, Round, rounds

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.engine.chat import Chat
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Session

KEPT = 4  # conversations whose caches stay


class Illava(llm.Model):
    """One of the names of `illava models list`, loaded when it is first asked."""

    can_stream = True
    supports_schema = True
    attachment_types = TYPES

    class Options(llm.Options):
        """As `illava run` has them; docs/pictures.md says what each does."""

        preset: str | None = Field(default=None, description="merging schedule (auto); off = none")
        method: str | None = Field(default=None, description="method of the preset's merge points")
        max_tokens: int | None = Field(default=None, description="longest answer, in tokens")
        temperature: float | None = Field(default=None, description="0 = greedy (the default)")
        top_p: float | None = Field(default=None, description="sample from this much probability")
        top_k: int | None = Field(default=None, description="sample from so many of the likeliest tokens")
        min_p: float | None = Field(default=None, description="sample from tokens this near the likeliest")
        seed: int | None = Field(default=None, description="seed of the sampling")
        stop: str | None = Field(default=None, description="text that ends the answer")
        num_frames: int | None = Field(default=None, description="frames of a video, evenly spaced")
        fps: float | None = Field(default=None, description="frames per second, instead of a number")
        start: float | None = Field(default=None, description="start within a video, in seconds")
        end: float | None = Field(default=None, description="end within a video, in seconds")
        max_tiles: int | None = Field(default=None, description="most tiles of an image")
        min_pixels: int | None = Field(default=None, description="fewest pixels of an image or frame (Qwen)")
        max_pixels: int | None = Field(default=None, description="most pixels of an image or frame (Qwen)")

    def __init__(self, name: str):
        self.name, self.model_id = name, f"illava/{name}"
        self._sessions: dict[str, Session] = {}  # by what decides the schedule; all on one loaded model
        self._chats: OrderedDict[str, Chat] = OrderedDict()  # by conversation, the latest last

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        """The answer, piece by piece where it is streamed.

        Raises:
            IllavaError: one line, which `llm` shows.
        """
        system, asked = rounds(prompt.messages)
        session = self._session(self._config(prompt))
        key = conversation.id if conversation is not None else None
        chat = self._chat(key, session, system, asked[:-1])
        last = asked[-1]

        def ask(on_text: Callable[[str], None] | None, cancel: threading.Event) -> Generation:
            media = last.media("image"), last.media("video")
            return chat.ask(last.prompt, *media, on_text=on_text, cancel=cancel)

        answer = yield from _pieces(ask, stream)
        if key is not None:
            self._chats[key] = chat
            while len(self._chats) > KEPT:
                self._chats.popitem(last=False)
        usage, record = answer.usage, answer.record()
        read = usage.prompt_tokens + usage.cached_tokens
        response.set_usage(input=read, output=usage.completion_tokens, details=record["usage"]["visual"])
        response.response_json = {
            name: record[name] for name in ("finish_reason", "preset", "media", "usage", "timings")
        }

    def _config(self, prompt: llm.Prompt) -> Config:
        from illava_cli.config.sources import grouped, resolve

        said = prompt.options.model_dump(exclude_none=True)
        if prompt.schema:
            said["json_schema"] = prompt.schema
        return resolve(self.name, overrides=grouped(said))

    def _session(self, config: Config) -> Session:
        """A session under a configuration; the model is loaded once."""
        from illava_cli.engine.opening import load

        merging = config.model_dump_json(exclude={"media", "generation"})
        if merging not in self._sessions:
            loaded = next(iter(self._sessions.values()), None)
            self._sessions[merging] = loaded.under(config) if loaded else load(config=config, on_note=_note)
        return self._sessions[merging].asking(config)

    def _chat(self, key: str | None, session: Session, system: str | None, before: list[Round]) -> Chat:
        """The conversation so far: as it was kept, or read again."""
        kept = self._chats.pop(key, None)
        if kept is not None and _holds(kept, system, before):
            kept.switch(session)
            return kept
        chat = session.chat(system)
        for one in before:
            chat.recall(one.prompt, one.media("image"), one.media("video"), answer=one.answer or "")
        return chat


def _holds(chat: Chat, system: str | None, before: list[Round]) -> bool:
    """Whether a conversation is made of these rounds; a medium cannot change its place in what is kept."""
    said = [(message["role"], message["content"]) for message in chat.messages]
    wanted = [pair for one in before for pair in (("user", one.prompt), ("assistant", one.answer or ""))]
    own = system if system is not None else chat.session.config.generation.system
    return chat.system == own and said == wanted


def _pieces(
    ask: Callable[[Callable[[str], None] | None, threading.Event], Generation], stream: bool
) -> Iterator[str]:
    """The pieces of an answer while it is given, in a thread of its own, and the answer itself at the end.

    Whoever stops listening stops the answer.
    """
    if not stream:
        answer = ask(None, threading.Event())
        yield answer.text
        return answer
    pieces: queue.SimpleQueue[str | Generation | BaseException] = queue.SimpleQueue()
    cancel = threading.Event()

    def run() -> None:
        try:
            pieces.put(ask(pieces.put, cancel))
        except BaseException as error:
            pieces.put(error)

    thread = threading.Thread(target=run, name="illava-llm", daemon=True)
    thread.start()
    try:
        while isinstance(piece := pieces.get(), str):
            yield piece
    finally:
        cancel.set()
        thread.join()
    if isinstance(piece, BaseException):
        raise piece
    return piece


def _note(text: str) -> None:
    print(f"illava: {text}", file=sys.stderr)
