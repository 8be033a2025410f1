"""A request that was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sample:
    """One request, on the client's clock in seconds; filled in while its answer comes.

    Args:
        due: when it was to be sent; at a rate that is its arrival, whether the client was late or not.
        turn: of its conversation, from 0.
        media: pictures and clips that it holds.
        first: its first text, or where the answer has none its end.
        last: the last piece of the answer.
        error: what kind of failure it was, and `message` what was said of it.
    """

    due: float
    turn: int = 0
    media: int = 0
    first: float | None = None
    last: float | None = None
    pieces: list[str] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)  # what the server says, where it does
    error: str | None = None
    message: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        """Of the answer; where the server counts none, the pieces in which it came."""
        return count(self.usage, "completion_tokens") or len(self.pieces)

    @property
    def first_s(self) -> float | None:
        """Until the first text."""
        return None if self.error or self.first is None else self.first - self.due

    @property
    def whole_s(self) -> float | None:
        """Until the end of the answer."""
        return None if self.error or self.last is None else self.last - self.due

    @property
    def per_token_s(self) -> float | None:
        """Between tokens, from the first to the last."""
        if self.error or self.first is None or self.last is None or self.tokens < 2:
            return None
        return (self.last - self.first) / (self.tokens - 1)

    def take(self, chunk: dict[str, Any], now: float) -> None:
        """A chunk of the answer.

        Raises:
            ValueError: it says that the answer failed; or it is no chunk.
        """
        if (error := chunk.get("error")) is not None:
            raise ValueError(error.get("message") if isinstance(error, dict) else error)
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning_content")
            if text:
                self.first = self.first or now
                self.pieces.append(text)
            if text or choice.get("finish_reason"):
                self.last = now
            self.finish = choice.get("finish_reason") or self.finish
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = usage
        if isinstance(own := chunk.get("illava"), dict):
            self.timings = own.get("timings") or {}

    def end(self) -> None:
        """There will be no more chunks.

        Raises:
            ValueError: the answer is not whole.
        """
        if self.finish is None:
            raise ValueError("the answer broke off")
        self.first = self.first or self.last


def count(data: dict[str, Any], *names: str) -> int:
    """A number within nested objects; 0 where it is not said."""
    for name in names[:-1]:
        data = data.get(name) if isinstance(data.get(name), dict) else {}
    found = data.get(names[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
