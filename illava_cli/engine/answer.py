"""One row's answer while it grows: its tokens and text, what ends it, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from tokenizers.decoders import DecodeStream
from torch import Tensor

from illava_cli.engine.request import Turn
from illava_cli.engine.sampling import Sampler
from illava_cli.trace import Trace


class Answer:
    """The answer to a turn, or one of several.

    Args:
        limit: most tokens of it.
        end_ids: tokens that end it.
        prompt: token ids that the repetition penalty counts.
        stream: its number among the answers to the same question.
        trace: what was kept of the prompt's way.
        logits: (vocabulary,) of the first token, where the turn wants them.
    """

    def __init__(
        self,
        turn: Turn,
        tokenizer,
        limit: int,
        end_ids: set[int],
        prompt: Sequence[int] = (),
        stream: int = 0,
        trace: Trace | None = None,
        logits: Tensor | None = None,
    ):
        options = turn.config.generation
        self.turn, self.limit, self.stream = turn, limit, stream
        constraint = turn.constrain() if turn.constrain is not None else None
        endless = options.ignore_eos and constraint is None  # after its end nothing conforms
        self.end_ids = (set() if endless else end_ids) | set(options.stop_token_ids)
        self.sampler = Sampler(options, prompt, stream, constraint)
        on_text = None if turn.on_text is None else partial(turn.on_text, self)
        self.text = RowText(tokenizer, options.stop, on_text)
        self.tokens: list[int] = []
        self.logprobs: list[dict] = []
        self.finish_reason: str | None = None
        self.cancelled = False
        self.error: Exception | None = None  # what whoever listens raised
        self.first_at = self.last_at = 0.0
        self.trace, self.logits = trace, logits

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return self.finish_reason is not None or self.cancelled or self.error is not None

    def put(self, token: int, logprobs: dict | None = None) -> None:
        """Add a token."""
        self.last_at = time.perf_counter()
        self.first_at = self.first_at or self.last_at
        self.tokens.append(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        try:
            self.sampler.accept(token)
            if token not in self.end_ids:
                self.text.put(token)
        except Exception as error:  # a constraint and `on_text` are their own row's affair
            self.error = error
        if self.text.stopped or token in self.end_ids:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.limit:
            self.finish_reason = "length"
        self.cancelled = self.finish_reason is None and self._is_over()

    def _is_over(self) -> bool:
        """Whether nobody wants more of it, or its time is up."""
        turn = self.turn
        late = turn.timeout is not None and self.last_at - turn.began > turn.timeout
        return late or turn.is_cancelled


class RowText:
    """One row's answer while it grows; `text` never holds part of a stop string."""

    def __init__(self, tokenizer, stop: list[str], on_text: Callable[[str], None] | None):
        self.backend = tokenizer.backend_tokenizer
        self.stream = DecodeStream(skip_special_tokens=True)
        self.stop, self.on_text = [s for s in stop if s], on_text
        self.raw, self.shown = "", 0
        self.stopped = False

    def put(self, token: int) -> None:
        """Add a token."""
        piece = self._step(token)
        if not piece or self.stopped:
            return
        self.raw += piece
        found = [at for s in self.stop if (at := self.raw.find(s)) >= 0]
        if found:
            self.raw = self.raw[: min(found)]
            self.stopped = True
        self._show(len(self.raw) if self.stopped else len(self.raw) - self._held())

    def _step(self, token: int) -> str | None:
        try:
            return self.stream.step(self.backend, token)
        except Exception:  # tokenizers has no other
            # bytes that are no text after all took what was shown before them along: go on after them
            self.stream = DecodeStream(skip_special_tokens=True)
            return "\ufffd" + (self.stream.step(self.backend, token) or "")

    def finish(self, whole: str) -> str:
        """The final text, given the decoding of all tokens at once (which also ends a torn character)."""
        if not self.stopped and whole.startswith(self.raw[: self.shown]):
            self.raw = whole
        self._show(len(self.raw))
        return self.raw

    def _held(self) -> int:
        """Characters at the end that may yet become a stop string."""
        longest = 0
        for s in self.stop:
            for n in range(min(len(s) - 1, len(self.raw)), longest, -1):
                if self.raw.endswith(s[:n]):
                    longest = n
                    break
        return longest

    def _show(self, upto: int) -> None:
        if self.on_text is not None and upto > self.shown:
            self.on_text(self.raw[self.shown : upto])
        self.shown = max(self.shown, upto)
