"""Watching a batch being decoded: text as it comes, stop strings, cancelling, and the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import StoppingCriteria


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
            # bytes that are no text after all took what was shown before them along: go on behind them
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


class Watcher(StoppingCriteria):
    """Called by `generate` after each token of a batch; rows stop one by one."""

    def __init__(
        self,
        rows: list[RowText],
        limits: list[int],
        end_ids: set[int],
        cancel: threading.Event | None,
        verify: Callable[[int], None] = lambda generated: None,
    ):
        """
        Args:
            verify: called after each pass with the tokens that were fed back before it.
        """
        self.rows, self.limits, self.end_ids, self.cancel = rows, limits, end_ids, cancel
        self.verify, self.passes = verify, 0
        self.tokens: list[list[int]] = [[] for _ in rows]
        self.done = [False] * len(rows)
        self.first_token_at: float | None = None
        self.cancelled = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs) -> Tensor:
        self.verify(self.passes)
        self.passes += 1
        newest = input_ids[:, -1].tolist()
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        for index, (row, token) in enumerate(zip(self.rows, newest, strict=True)):
            if self.done[index]:
                continue
            self.tokens[index].append(token)
            if token not in self.end_ids:
                row.put(token)
            full = len(self.tokens[index]) >= self.limits[index]
            self.done[index] = row.stopped or full or token in self.end_ids
        self.cancelled = self.cancel is not None and self.cancel.is_set()
        return torch.tensor([self.cancelled or done for done in self.done], device=input_ids.device)
