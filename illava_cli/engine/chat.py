"""A conversation: its KV cache, its messages, and how a turn is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from illava_cli.config.settings import Config
from illava_cli.engine.generation import generation_of, reset_peak
from illava_cli.engine.passes import Passes
from illava_cli.engine.past import Past
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Prepared, Request, Turn
from illava_cli.engine.runner import WITHIN, Runner
from illava_cli.errors import UsageError
from illava_cli.trace import Tracing


class Asking(Protocol):
    """What a conversation needs of a session."""

    runner: Runner
    passes: Passes
    config: Config

    def prepare(self, request: Request, *, fresh: bool, cancel: threading.Event | None) -> Prepared:
        """A question with its media read."""

    def turn(self, prepared: Prepared, past: Past | None = None, **options: Any) -> Turn:
        """A prepared question at the end of a conversation."""

    def given(self, answer: str) -> list[int]:
        """Token ids of an answer that is given."""


class Chat:
    """A conversation. Media are merged once, in the turn in which they arrive."""

    def __init__(self, session: Asking, system: str | None = None):
        self.session = session
        self.system = system if system is not None else session.config.generation.system
        self._lock = threading.RLock()
        self._asking = False
        self.clear()

    def clear(self) -> None:
        """Forget the conversation, not the model."""
        self.messages: list[dict[str, Any]] = []
        self.past = Past(self.session.runner.new_cache())
        self._known: tuple[Turn, ...] = ()  # rounds that are read before what is asked next

    def switch(self, session: Asking) -> None:
        """Go on under another session on the same model."""
        self.session = session

    @property
    def cached_tokens(self) -> int:
        """Tokens in the first layer's cache."""
        return self.past.cache.get_seq_length()

    @property
    def deepest_tokens(self) -> int:
        """Tokens in the last layer's cache: what merging has left of them."""
        cache = self.past.cache
        return cache.get_seq_length(len(cache.keys) - 1)

    @property
    def context_used(self) -> int:
        """How much of the model's context the conversation takes up."""
        return max(self.cached_tokens, self.past.position)

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
        session, past = self.session, self.past
        session.runner.refuse_within()  # what is asked goes on from what was answered last
        with self._turn():
            reset_peak(session.runner.family.device)
            request = Request(prompt, images, videos, self.system, id)
            prepared = session.prepare(request, fresh=bool(trace), cancel=cancel)
            options = {"cancel": cancel, "trace": trace, "logits": logits, "on_text": told(on_text)}
            turn = session.turn(prepared, past, earlier=self._known, **options)
            rounds = past.rounds
            try:
                (answer,) = session.passes.answer(turn)
                past.end_round(turn.leading, turn.spoken, answer.tokens, pending=1)
                generation = generation_of(answer, session.runner.family, session.runner.load_seconds)
            except BaseException:
                past.back(rounds)
                raise
            self._known = ()
            self._add(turn, generation.text)
            return generation

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
        with self._turn():
            request = Request(prompt, images, videos, self.system)
            prepared = self.session.prepare(request, fresh=False, cancel=cancel)
            given = self.session.given(answer)
            turn = self.session.turn(prepared, self.past, earlier=self._known, given=given)
            self._known = (*self._known, turn)
            self._add(turn, answer)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One turn after another. The last words of an answer are told when its passes are over already, and
        who asks from there would go on from a turn that has no end yet."""
        with self._lock:
            if self._asking:
                raise UsageError(WITHIN)
            self._asking = True
            try:
                yield
            finally:
                self._asking = False

    def _add(self, turn: Turn, answer: str) -> None:
        media = turn.prepared.media
        images, videos = ([m.source for m in media if m.kind == kind] for kind in ("image", "video"))
        prompt = turn.prepared.request.prompt
        self.messages += [
            {"role": "user", "content": prompt, "images": images, "videos": videos},
            {"role": "assistant", "content": answer, "images": [], "videos": []},
        ]


def told(on_text: Callable[[str], None] | None) -> Callable[[Any, str], None] | None:
    """A listener to one answer, as a turn wants it."""
    return None if on_text is None else lambda answer, text: on_text(text)
