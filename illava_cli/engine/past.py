"""What a conversation's rounds have left behind: a KV cache, and what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from illava_cli.models.cache import MergeCache


@dataclass(frozen=True)
class Mark:
    """The end of a round, to which a conversation can go back."""

    cache: tuple
    leading: str | None
    pending: tuple[int, ...]
    said: int

    @property
    def states(self) -> dict:
        """By layer of linear attention, what it held: nothing leads back to it."""
        return self.cache[2]


class Past:
    """A conversation so far. Media are merged once, in the round in which they arrive.

    Whoever lets it go on has it for himself: a turn appends to its cache.
    """

    def __init__(self, cache: MergeCache):
        """
        Args:
            cache: without rows.
        """
        self.cache = cache
        self.leading: str | None = None  # kind of the first media: fixes the decoder's schedule
        self.pending: list[int] = []  # tokens of the last answer that are not in the cache yet
        self.said: list[int] = []  # token ids of all rounds
        self.marks = [self._mark()]

    @property
    def rounds(self) -> int:
        """Questions that have their answers."""
        return len(self.marks) - 1

    @property
    def position(self) -> int:
        """Where the next token stands."""
        return self.cache.next_position[0] if self.cache.rows else 0

    @property
    def nbytes(self) -> int:
        """Memory of the cache."""
        kept = [state for mark in self.marks for state in mark.states.values() if state is not None]
        return self.cache.nbytes + sum(x.nbytes for state in kept for x in state)

    def end_round(
        self, leading: str | None, spoken: Sequence[int], answer: Sequence[int], pending: int
    ) -> None:
        """Count a question and its answer.

        Args:
            leading: kind of the conversation's first media.
            spoken: token ids of the question.
            pending: how many of the answer's last tokens are not in the cache.
        """
        self.leading = leading
        self.said += [*spoken, *answer]
        self.pending = list(answer[len(answer) - pending :])
        self.marks.append(self._mark())

    def back(self, rounds: int) -> None:
        """Forget all that came after so many rounds, and what a turn has begun."""
        del self.marks[rounds + 1 :]
        mark = self.marks[-1]
        self.cache.restore(mark.cache)
        self.leading, self.pending = mark.leading, list(mark.pending)
        del self.said[mark.said :]

    def _mark(self) -> Mark:
        return Mark(self.cache.snapshot(), self.leading, tuple(self.pending), len(self.said))
