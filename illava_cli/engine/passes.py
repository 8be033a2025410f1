"""Many threads and tasks ask one model, and share its passes.

Whoever waits for an answer drives the batch meanwhile, for all, until his own has its end; then the next one
does. So a single question runs in the thread that asks it, and needs no other. For tasks, which must not
wait, a thread drives as long as there is something to do.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from illava_cli.engine.scheduler import Ended, Scheduler
from illava_cli.errors import Cancelled

if TYPE_CHECKING:
    from illava_cli.engine.answer import Answer
    from illava_cli.engine.request import Turn
    from illava_cli.engine.runner import Runner

logger = logging.getLogger("illava")

ROWS_CPU, ROWS_GPU = 16, 32
LINGER_S = 1.0  # that a driving thread waits for more: a new one would begin with threads of its own

OnEnd = Callable[[list["Answer"], Exception | None], None]


class Passes:
    """The batch that all share who ask a model."""

    def __init__(
        self,
        runner: Runner,
        rows: int | None = None,
        chunk: int | None = None,
        tokens: int | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ):
        """
        Args:
            rows: answers at a time; None: what suits the device.
            chunk, tokens, on_note: as of `Scheduler`.
        """
        self.runner = runner
        on_cpu = runner.family.device.type == "cpu"
        rows = rows or (ROWS_CPU if on_cpu else ROWS_GPU)
        self.scheduler = Scheduler(runner, rows, chunk, tokens, on_note)
        self.on_pass: Callable[[Scheduler], None] = lambda scheduler: None  # told of each, for figures
        self._changed = threading.Condition()
        self._arrived: deque[Turn] = deque()
        self._ends: dict[Turn, OnEnd] = {}  # of all that have not ended
        self._waiters: list[list] = []  # what threads wait for, which then need not drive
        self._driver: object | None = None  # a turn whose thread drives, or a thread of ours
        self._begun = False  # whether the runner is ours

    @property
    def waiting(self) -> int:
        """Turns that have no row yet."""
        return len(self._arrived) + self.scheduler.waiting

    # --- asking -----------------------------------------------------------------------------------

    def answer(self, turn: Turn) -> list[Answer]:
        """A turn's answers; until they are there, this thread drives, or waits for the one that does.

        Raises:
            Whatever ended the turn.
        """
        self.runner.refuse_within()
        found: list[tuple[list[Answer], Exception | None]] = []
        try:
            self._add(turn, lambda *ended: found.append(ended))
            while self._is_driver(turn, found):
                self._drive(turn, found)
        except BaseException:
            self._forget(turn)
            self._resign(turn)
            raise
        answers, error = found[0]
        if error is not None:
            raise error
        return answers

    def submit(self, turn: Turn, on_end: OnEnd) -> None:
        """Have a turn answered by a thread that drives.

        Args:
            on_end: called in that thread with the answers, or with why there are none; it must not wait.
        """
        self._add(turn, on_end)
        self._hand_over()

    def _add(self, turn: Turn, on_end: OnEnd) -> None:
        with self._changed:
            self._ends[turn] = on_end
            self._arrived.append(turn)
            self._changed.notify_all()

    def _forget(self, turn: Turn) -> None:
        """Nobody waits for a turn any more."""
        turn.give_up()
        with self._changed:
            if turn in self._arrived:
                self._arrived.remove(turn)
                del self._ends[turn]

    def _is_driver(self, turn: Turn, found: list) -> bool:
        """Wait until a turn has ended, or until nobody drives: then it is this thread's part."""
        with self._changed:
            self._waiters.append(found)
            try:
                self._changed.wait_for(lambda: found or self._driver is None)
            finally:
                self._waiters = [one for one in self._waiters if one is not found]
            if not found:
                self._driver = turn
            return not found

    def _hand_over(self) -> None:
        """See to it that somebody drives, as long as there is something to do."""
        with self._changed:
            coming = any(not found for found in self._waiters)  # who has an answer does not come to drive
            if self._driver is not None or coming or not self._has_work():
                return
            thread = threading.Thread(target=lambda: self._drive(thread), name="illava-passes", daemon=True)
            thread.start()
            self._driver = thread

    def _resign(self, driver: object) -> None:
        """Drive no more, if that one does."""
        with self._changed:
            if self._driver is driver:
                if not self._has_work():
                    self._release()
                self._driver = None
                self._changed.notify_all()
        self._hand_over()

    # --- driving ----------------------------------------------------------------------------------

    def _drive(self, driver: object, found: list | None = None) -> None:
        """Advance the batch until something is found; None: as long as there is something to do."""
        try:
            while self._has_work() and not found:
                self._advance()
                if found is None and not self._has_work():
                    self._release()
                    with self._changed:
                        self._changed.wait_for(lambda: self._arrived, LINGER_S)
        except Exception as error:  # a fault of ours: nobody may wait for ever
            self._recover()
            self.scheduler.dismiss()
            with self._changed:
                self._arrived.clear()
                self._end_lost(error)
        except BaseException:
            if found is not None:
                self._forget(driver)
            self._recover()
            self._end_lost(Cancelled("the pass was broken off, as the thread that drove it was: ask again"))
            raise
        finally:
            self._resign(driver)

    def _recover(self) -> None:
        """A signal may come anywhere, so what is in the caches is not known any more."""
        if self._begun:  # else they are another batch's
            self.scheduler.recover()

    def _end_lost(self, error: Exception) -> None:
        """End those that are nowhere any more."""
        with self._changed:
            known = {*self.scheduler.queue, *self._arrived}
            lost = [turn for turn in self._ends if turn not in known]
        self._tell([(turn, [], error) for turn in lost])

    def _has_work(self) -> bool:
        return bool(self._arrived) or not self.scheduler.idle

    def _advance(self) -> None:
        if not self._begun:
            self.runner.begin()
            self._begun = True
        with self._changed:
            while self._arrived:
                self.scheduler.add(self._arrived.popleft())
        with self.runner.driven():
            ended = self.scheduler.advance()
        self.on_pass(self.scheduler)
        if ended:
            self._tell(ended)

    def _release(self) -> None:
        if self._begun:
            self._begun = False
            self.runner.end()

    def _tell(self, ended: list[Ended]) -> None:
        for turn, answers, error in ended:
            try:
                self._ends[turn](answers, error)
            except Exception:  # others' answers are on their way
                logger.exception("an answer has ended, and who was told of it failed")
            with self._changed:
                del self._ends[turn]
        with self._changed:
            self._changed.notify_all()
