"""A conversation: its KV cache, its messages, and how a turn is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from illava_cli.config.settings import Config
from illava_cli.engine import prompt as prompts
from illava_cli.engine.generation import generation_of, reset_peak
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Prepared, Request, Rules, Turn
from illava_cli.engine.runner import Runner
from illava_cli.trace import Tracing


class Asking(Protocol):
    """What a conversation needs of a session."""

    runner: Runner
    config: Config
    rules: Rules

    def asking(self, config: Config) -> Asking:
        """Itself under other settings of the decoding."""

    def prepare(self, request: Request, *, fresh: bool, cancel: threading.Event | None) -> Prepared:
        """A question with its media read."""


class Chat:
    """A conversation. Media are merged once, in the turn in which they arrive."""

    def __init__(self, session: Asking, system: str | None = None):
        self.session = session
        self.system = system if system is not None else session.config.generation.system
        self.clear()

    def clear(self) -> None:
        """Forget the conversation, not the model."""
        self.messages: list[dict[str, Any]] = []
        self.cache = self.session.runner.new_cache()
        self.leading: str | None = None  # kind of the first media: fixes the decoder's schedule
        self._pending: list[int] = []  # tokens of the last answer that are not in the cache yet
        self._said: list[int] = []  # token ids of all turns

    def switch(self, session: Asking) -> None:
        """Go on under another session on the same model."""
        self.session = session

    @property
    def cached_tokens(self) -> int:
        """Tokens in the first layer's cache."""
        return self.cache.get_seq_length()

    @property
    def deepest_tokens(self) -> int:
        """Tokens in the last layer's cache: what merging has left of them."""
        return self.cache.get_seq_length(len(self.cache.keys) - 1)

    @property
    def context_used(self) -> int:
        """How much of the model's context the conversation takes up."""
        return max(self.cached_tokens, *self.cache.next_position, 0)

    def ask(
        self,
        prompt: str,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
        id: str = "",
        trace: Tracing = False,
        logits: bool = False,
    ) -> Generation:
        """The next turn; arguments as for `Session.ask`.

        A turn that fails leaves the conversation as it was.
        """
        options = {"on_text": on_text, "cancel": cancel, "trace": trace, "logits": logits}
        with self.session.runner.alone():  # what is asked goes on from what was answered last
            before = self.cache.snapshot()
            try:
                return self._answer(self.session, Request(prompt, images, videos, self.system, id), options)
            except BaseException:
                self.cache.restore(before)
                raise

    def recall(
        self,
        prompt: str,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        *,
        answer: str,
        cancel: threading.Event | None = None,
    ) -> None:
        """A turn whose answer is known: what is asked next goes on from it as if it had been said here.

        Raises:
            IllavaError: as `ask`; the conversation is then as it was.
        """
        family, config = self.session.runner.family, self.session.config
        shortest = config.generation.model_copy(update={"max_tokens": 1, "json_schema": None})
        session = self.session.asking(config.model_copy(update={"generation": shortest}))
        tokens = family.control_tokens.encode(family.control_tokens.hidden(answer), False)
        options = {"on_text": None, "cancel": cancel, "trace": False, "logits": False}
        with self.session.runner.alone():
            before = self.cache.snapshot()
            try:
                self._answer(session, Request(prompt, images, videos, self.system), options)
            except BaseException:
                self.cache.restore(before)
                raise
            # the token that it chose is not in the cache; these enter it, and count, with the next turn
            self._pending, self._said = tokens, self._said[:-1]
            self.messages[-1]["content"] = answer

    def _answer(self, session: Asking, request: Request, options: dict[str, Any]) -> Generation:
        runner, trace = session.runner, options["trace"]
        family, counts = runner.family, request.counts
        user = prompts.user_message(family, request.prompt, *counts)
        if self.messages:
            last = self._pending[-1] if self._pending else None
            pending = [self._pending] if self._pending else []
            parts = pending + prompts.later_turn(family, user, last, *counts)
        else:
            parts = prompts.first_turn(family, user, self.system, *counts)
        constrain = runner.grammars.constrain(session.config)
        reset_peak(family.device)
        prepared = session.prepare(request, fresh=bool(trace), cancel=options["cancel"])
        start = self.cache.next_position[0] if self.cache.rows else 0
        so_far = self.leading, start, self._said
        turn = Turn(prepared, parts, session.rules, session.config, *so_far, constrain=constrain, **options)
        if trace and not self.messages:
            turn.system_tokens = prompts.leading_tokens(family, parts, self.system)
        answer = runner.answer(turn, self.cache)
        generation = generation_of(answer, family, runner.load_seconds)
        self.leading = answer.turn.leading
        self._pending = answer.tokens[-1:]
        self._said = [*self._said, *answer.turn.spoken, *answer.tokens]
        sources = [[m.source for m in generation.media if m.kind == kind] for kind in ("image", "video")]
        self.messages += [
            {"role": "user", "content": request.prompt, "images": sources[0], "videos": sources[1]},
            {"role": "assistant", "content": generation.text, "images": [], "videos": []},
        ]
        return generation
