"""Rows that join and leave: a batch that is stepped while newcomers are prefilled.

A row that has its end leaves at once, and a waiting question takes its place. Newcomers' prefills may be cut
into chunks, between which the others take their steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from weakref import WeakKeyDictionary

import torch

from illava_cli.engine.answer import Answer
from illava_cli.engine.request import Turn
from illava_cli.engine.runner import UNASKED, Runner, leading_schedule, out_of_memory_in_one_line
from illava_cli.errors import Cancelled, OutOfMemory, UsageError
from illava_cli.models.cache import MergeCache

ALIKE = 1.5  # sizes that differ by less share a prefill
RECOVERY = 16  # times as many newcomers as rows, after which as many again are tried

Ended = tuple[Turn, list[Answer], Exception | None]  # its answers, or why there are none


class Scheduler:
    """Turns in the order in which they came, at most `rows` answers at a time."""

    def __init__(
        self,
        runner: Runner,
        rows: int,
        chunk: int | None = None,
        tokens: int | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ):
        """
        Args:
            chunk: tokens of a newcomer's prompt between two steps of the others; None: all.
            tokens: that the cache may hold in its first layer, what may yet be answered included; None: all
                that there is memory for. A turn that needs more alone is let in alone.
            on_note: told where memory does not suffice for so many rows.

        Raises:
            UsageError: there are no rows.
        """
        if rows < 1:
            raise UsageError(f"{rows} answers at a time: give 1 or more")
        self.runner, self.rows, self.chunk, self.on_note = runner, rows, chunk, on_note
        self.tokens = tokens
        self._sizes: WeakKeyDictionary[Turn, int] = WeakKeyDictionary()
        self._most = self._fewest = rows  # at first, and since memory ran out
        self.stepped = 0  # rows that took the last step
        self._joined = 0  # since the number of rows changed
        self.cache = runner.batch_cache()
        self.answers: list[Answer] = []  # a row of the cache each
        self._waiting: deque[Turn] = deque()
        self._together = rows  # newcomers that share a prefill: fewer after one that failed
        self._entering: tuple[list[Turn], MergeCache, Generator] | None = None
        self._ended: dict[Turn, list[Answer]] = {}  # turns of which some answers have ended

    @property
    def waiting(self) -> int:
        """Turns that have no row yet."""
        return len(self._waiting) + (len(self._entering[0]) if self._entering else 0)

    @property
    def queue(self) -> list[Turn]:
        """Turns whose prefill has not begun, in their order."""
        return list(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.answers and not self.waiting

    def add(self, turn: Turn) -> None:
        """Take in a question."""
        self._waiting.append(turn)

    def dismiss(self) -> list[Turn]:
        """Give back those that have no row yet; the others go on."""
        turns, self._waiting = list(self._waiting), deque()
        return turns

    def run(self) -> Iterator[Ended]:
        """All that was added, to its end."""
        while not self.idle:
            yield from self.advance()

    @torch.inference_mode()
    def advance(self) -> list[Ended]:
        """A part of the newcomers' prefill, and a token for each row; what ended by it."""
        failed = self._cancelled()
        if self._entering is None:
            self._enter()
        if self._entering is not None and len(self.answers) < self.rows:
            failed += self._prefill(wait=not self.answers)
        if self.answers:
            failed += self._step()
        return failed + self._leave()

    # --- newcomers --------------------------------------------------------------------------------

    def _cancelled(self) -> list[Ended]:
        """Those among the waiting that nobody waits for any more."""
        gone = [turn for turn in self._waiting if turn.is_cancelled]
        for turn in gone:
            self._waiting.remove(turn)
        return [(turn, [], Cancelled(UNASKED)) for turn in gone]

    def _enter(self) -> None:
        """Let the oldest in that are waiting, and those like it, as many as there is room for."""
        room = min(self.rows - len(self.answers), self._together)
        if not self._waiting:
            return
        oldest = self._waiting[0]
        if self.answers and (room < oldest.answers or not self._fits([oldest])):
            return
        turns = [oldest]
        room -= oldest.answers
        for turn in list(self._waiting)[1:]:
            fits = self._is_short([*turns, turn]) and self._fits([*turns, turn])
            if turn.answers <= room and alike(turn, oldest) and fits:
                turns.append(turn)
                room -= turn.answers
        entering = set(turns)
        cache = oldest.past.cache if oldest.continues else self.runner.new_cache()
        self._entering = turns, cache, self.runner.prefill(turns, cache, self.chunk)
        self._waiting = deque(turn for turn in self._waiting if turn not in entering)

    def _is_short(self, newcomers: list[Turn]) -> bool:
        """Whether newcomers together are no longer than what the others let one of them have at a time."""
        longest = max(len(turn.spoken) + turn.prepared.tokens for turn in newcomers)
        return not (self.chunk and self.answers) or len(newcomers) * longest <= self.chunk

    def _fits(self, newcomers: list[Turn]) -> bool:
        """Whether newcomers may take places beside the rows that there are, all as long as the longest."""
        if self.tokens is None:
            return True
        turns = [*dict.fromkeys(answer.turn for answer in self.answers), *newcomers]
        rows = len(self.answers) + sum(turn.answers for turn in newcomers)
        return rows * max(map(self._size, turns)) <= self.tokens

    def _size(self, turn: Turn) -> int:
        if turn not in self._sizes:
            self._sizes[turn] = self.runner.size(turn)
        return self._sizes[turn]

    def _prefill(self, wait: bool) -> list[Ended]:
        """A part of what is being prefilled, or all of it where nobody waits for a step."""
        turns, cache, work = self._entering
        try:
            with out_of_memory_in_one_line():
                while (answers := _after_a_part(work)) is None:
                    if not wait:
                        return []
            self._entering = None
            self._join(turns, cache, answers)
        except Cancelled as error:
            self._entering = None
            return [(turn, [], error) for turn in turns]
        except Exception as error:
            self._entering = None
            return self._failed(turns, error)
        return []

    def _join(self, turns: list[Turn], cache: MergeCache, answers: list[Answer]) -> None:
        """Let those in that are prefilled."""
        try:
            with out_of_memory_in_one_line():
                rows = [row for row, turn in enumerate(turns) for _ in range(turn.answers)]
                # a conversation keeps its own cache, and takes in what the batch's has got in the end
                if self.answers or self.runner.graphs is not None or turns[0].continues:
                    self.cache.join(cache, rows)
                else:
                    if len(rows) > len(turns):
                        cache.select(rows)
                    self.cache = cache
        except OutOfMemory:
            if not self.answers:
                raise
            self._have_fewer(len(self.answers))  # until one of them has left they wait as they are
            self._entering = turns, cache, _prefilled(answers)
            return
        self.answers += answers
        self._together = self.rows
        self._joined += len(turns)
        if self.rows < self._most and self._joined >= RECOVERY * self.rows:
            self._set_rows(min(2 * self.rows, self._most))

    def _failed(self, turns: list[Turn], error: Exception) -> list[Ended]:
        """Turns that failed together: tried in smaller parts, or after those that take up the memory."""
        if len(turns) == 1 and not (isinstance(error, OutOfMemory) and self.answers):
            return [(turns[0], [], error)]
        if isinstance(error, OutOfMemory):
            self._have_fewer(len(self.answers) or len(turns) // 2)
        self._together = max(1, len(turns) // 2)
        for turn in reversed(turns):
            turn.begin_anew()
            self._waiting.appendleft(turn)
        return []

    def _have_fewer(self, rows: int) -> None:
        before = self.rows
        self._set_rows(max(1, min(rows, before)))
        if self.rows < self._fewest:
            self._fewest = self.rows
            self.on_note(f"out of memory with {before} in a batch: going on with {self.rows}")

    def _set_rows(self, rows: int) -> None:
        self.rows, self._joined = rows, 0

    # --- rows -------------------------------------------------------------------------------------

    def _step(self) -> list[Ended]:
        self.stepped = 0
        if any(answer.done for answer in self.answers):
            return []  # a newcomer had its end with its first token
        try:
            with out_of_memory_in_one_line():
                self.runner.step(self.cache, self.answers)
            self.stepped = len(self.answers)
        except Exception as error:
            few = max(1, len(self.answers) // 2)
            shown, again = self._begin_anew()
            if isinstance(error, OutOfMemory):
                self._have_fewer(few)
            self._set_rows(min(self.rows, few))  # whatever it was, it may take as many rows to happen
            return [(turn, [], error) for turn in shown] + (self._failed(again, error) if again else [])
        return []

    def _begin_anew(self) -> tuple[list[Turn], list[Turn]]:
        """Let all rows go, as what the cache holds is not known any more: turns of whom something was shown,
        and those that may begin again."""
        turns = list({answer.turn: None for answer in self.answers})
        self.cache, self.answers = self.runner.batch_cache(), []
        self.cache.clear()
        self._ended.clear()
        shown = [turn for turn in turns if turn.on_text is not None]
        return shown, [turn for turn in turns if turn.on_text is None]

    def recover(self) -> None:
        """Go on after `advance` was broken off anywhere: what was begun begins again, but for turns of whom
        something was shown, and those that nobody waits for."""
        _, again = self._begin_anew()
        entering = self._entering[0] if self._entering else []
        self._entering = None
        for turn in (*again, *entering):
            turn.begin_anew()
        turns = dict.fromkeys([*again, *entering, *self._waiting])
        self._waiting = deque(turn for turn in turns if not turn.is_cancelled)

    def _leave(self) -> list[Ended]:
        """Let the rows go that have their end."""
        ended: list[Ended] = []
        for row in reversed(range(len(self.answers))):
            answer = self.answers[row]
            if not answer.done:
                continue
            if answer.turn.past is not None and answer.stream == 0:
                answer.turn.past.cache.follow(self.cache, row)
            self.cache.leave(row)
            self.answers[row] = self.answers[-1]
            self.answers.pop()
            own = self._ended.setdefault(answer.turn, [])
            own.append(answer)
            if len(own) == answer.turn.answers:
                del self._ended[answer.turn]
                own.sort(key=lambda answer: answer.stream)
                error = next((answer.error for answer in own if answer.error), None)
                ended.append((answer.turn, own, error))
        if ended and not self.answers and self.runner.graphs is None:
            self.cache = self.runner.batch_cache()  # its memory goes with the last row
        return ended[::-1]


def _after_a_part(work: Generator) -> list[Answer] | None:
    """The answers of a prefill that came to its end; None where there is more of it."""
    try:
        next(work)
    except StopIteration as end:
        return end.value
    return None


def _prefilled(answers: list[Answer]) -> Generator[None, None, list[Answer]]:
    """A prefill of which nothing is left to do."""
    yield from ()
    return answers


def alike(turn: Turn, other: Turn) -> bool:
    """Whether two questions may share a prefill: of one schedule, and of like size, since it is filled up."""
    if turn.rules != other.rules or turn.trace or other.trace or turn.continues or other.continues:
        return False
    sizes = sorted(max(1, one.prepared.tokens) for one in (turn, other))
    if sizes[1] > ALIKE * sizes[0]:
        return False
    one, two = leading_schedule(turn), leading_schedule(other)
    return (one.decoder, one.scope, one.packed) == (two.decoder, two.scope, two.packed)
