"""The search for one kind of medium: many schedules on few questions, few on many, and a check on others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any, Protocol

from illava_cli.config.settings import Config
from illava_cli.engine.session import Session
from illava_cli.errors import Cancelled, UsageError
from illava_cli.evals.lanes import Answer, Lane
from illava_cli.evals.report import summary
from illava_cli.evals.results import Results
from illava_cli.evals.runner import Runner
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.statistics import share
from illava_cli.evals.variants import OFF, Variant, unmerged
from illava_cli.tuning import cost
from illava_cli.tuning.halving import LAST, layers, rounds, survivors
from illava_cli.tuning.space import Candidate, Genes, draw, express, layout_of, neighbour, shipped
from illava_cli.tuning.target import Figures, Target

COUNTED = 4  # questions whose operations are counted, and whose first tokens are timed
LEAST = 8  # questions of a first round
TIMED_ROUNDS = 3
OTHERS = 3  # of the first round's schedules, one in so many gets a neighbour in the second
REFERENCE = "auto"
COUNTED_AT_MOST = 3  # schedules for each that is wanted, where most are too slow for the target
DRAWS = 50  # attempts for each schedule that is wanted, before a space counts as walked


class Progress(Protocol):
    """Told what goes on."""

    def __call__(self, told: str, done: int, total: int) -> None:
        """So many of a total are done."""

    def note(self, line: str) -> None:
        """A line for a person who waits."""


@dataclass
class Tried:
    """A schedule: what it is, and what is known of it."""

    candidate: Candidate
    lane: Lane
    speed: float
    genes: Genes | None = None
    figures: dict[str, Any] = field(default_factory=dict)  # of `report.summary`, on the search's questions
    checked: dict[str, Any] = field(default_factory=dict)  # on questions that the search never asked
    measured: float | None = None  # speed-up to the first token by the clock


@dataclass(frozen=True)
class Reference(Lane):
    """The unmodified model, which is asked each question once."""

    answers: dict[str, Answer] = field(default_factory=dict)

    def ask(self, samples: Sequence[EvalSample], cancel: Event, trace: bool = False) -> list[Answer]:
        new = [sample for sample in samples if sample.id not in self.answers]
        asked = dict(zip((sample.id for sample in new), super().ask(new, cancel, trace), strict=True))
        # one that failed is asked again when its turn comes
        self.answers.update((name, answer) for name, answer in asked.items() if answer.error is None)
        return [asked.get(sample.id) or self.answers[sample.id] for sample in samples]


class Search:
    """Over schedules for one kind of medium of a loaded model.

    Args:
        resolve: the configuration of a run with these settings on top of all others.
        marked: whether the right answer to every question is known.
    """

    def __init__(
        self,
        session: Session,
        kind: str,
        resolve: Callable[[list[str]], Config],
        target: Target,
        results: Results,
        *,
        marked: bool,
        batch_size: int,
        seed: int,
        cancel: Event,
        progress: Progress,
    ):
        self.session, self.kind, self.resolve, self.target = session, kind, resolve, target
        self.results, self.batch_size, self.cancel, self.progress = results, batch_size, cancel, progress
        self.marked = marked
        self.rng = random.Random(f"{seed}/{kind}")
        plain = unmerged(resolve([]))
        self.off = Reference(Variant(OFF, plain), session.under(plain))
        self.tried: dict[str, Tried] = {}
        self.log: list[dict[str, Any]] = []
        self.failed: dict[str, dict[str, Any]] = {}
        self.sized: list[EvalSample] = []
        self.whole = 0  # operations of the unmodified model on these
        self.checked: dict[str, Any] = {}  # its figures on the questions of the check
        self._seen: list[Any] = []  # schedules, also those that were refused

    def figures(self, speed: float, found: dict[str, Any], whole: dict[str, Any]) -> Figures:
        """What the target looks at. A question that the reference answered and a schedule did not is lost.

        Args:
            found, whole: figures of the schedule and of the reference.
        """
        pairs, change = found.get("agreement"), found.get("difference")
        same = share(pairs["hits"] if pairs else 0, max(1, whole["answered"]))
        lost = 1 - (pairs["n"] if pairs else 0) / max(1, whole["answered"])
        return Figures(
            speed,
            (same.value, same.high),
            found["kl"] if found.get("kl") is not None else float("inf"),
            (change["value"] - lost, change["high"] - lost) if change and self.marked else None,
        )

    # --- the schedules ----------------------------------------------------------------------

    def gather(self, count: int, samples: Sequence[EvalSample]) -> None:
        """Take the shipped presets and drawn schedules, `count` in all, and count their operations.

        Raises:
            UsageError: no question can be asked, or the model can run nothing that may keep the target.
            Cancelled: it was stopped.
        """
        self._size(samples)
        for candidate in shipped(self.session.family, self.kind):
            self._take(candidate, None, count)
        for _ in range(DRAWS * count):
            if len(self.able()) >= count or len(self._seen) >= COUNTED_AT_MOST * count:
                break
            genes = draw(self.rng, self.kind)
            self._take(express(genes, self.kind, self.session.family), genes, count)
        if not self.tried:
            raise UsageError(
                f"none of {len(self._seen)} schedules for {self.kind}s runs and saves operations"
            )
        if not self.able():
            raise UsageError(
                f"--target {self.target}: of the {len(self.tried)} schedules for {self.kind}s none is so fast"
            )

    def _size(self, samples: Sequence[EvalSample]) -> None:
        """Choose questions whose operations are counted: of unlike tasks and media, and none that fails."""
        error: Exception | None = None
        for sample in _unlike(samples):
            if len(self.sized) == COUNTED:
                return
            try:
                self.whole += cost.operations(self.off.session, sample, self.cancel)
            except Cancelled:
                raise
            except Exception as caught:  # it is told of when it is asked
                error = caught
                continue
            self.sized.append(sample)
        if not self.sized:
            raise UsageError(f"no question about {self.kind}s can be asked: {error}") from None

    def able(self) -> list[str]:
        """Those that may keep the target, as far as their operations say."""
        best = (1.0, 1.0)
        return [
            name
            for name, one in self.tried.items()
            if self.target.may_be_kept(Figures(one.speed, best, 0.0, (0.0, 0.0)))
        ]

    def _take(self, candidate: Candidate, genes: Genes | None, wanted: int) -> None:
        name = f"{self.kind}: {candidate.name}"
        try:
            config = self.resolve(candidate.settings(layout_of(self.session.family)))
            lane = Lane(Variant(name, config), self.session.under(config))
        except UsageError:
            return  # this model cannot run it
        schedule = lane.session.schedules[self.kind]
        if schedule in self._seen or name in self.tried:
            return  # the same by another name, or what differs by less than its name says
        self._seen.append(schedule)
        self.progress(f"{self.kind}s: counting operations", min(len(self.able()), wanted), wanted)
        spent = self._spent(lane)
        if spent is not None and spent < self.whole:
            self.tried[name] = Tried(candidate, lane, self.whole / spent, genes)

    def _spent(self, lane: Lane) -> int | None:
        """Operations of a schedule; None where it fails, whatever is wrong with it."""
        try:
            return sum(cost.operations(lane.session, sample, self.cancel) for sample in self.sized)
        except Cancelled:
            raise
        except Exception:
            return None

    # --- the rounds ---------------------------------------------------------------------------

    def run(self, samples: Sequence[EvalSample]) -> list[Tried]:
        """The schedules that are left after all rounds, the best first."""
        going = self.able()
        first = len(going)
        asked = rounds(len(samples), first, LEAST)
        for number, count in enumerate(asked):
            if number == 1:
                going += self._neighbours(going, first // OTHERS)
            told = (
                f"{self.kind}s, round {number + 1} of {len(asked)}: {len(going)} schedules, {count} questions"
            )
            found = self._ask([self.tried[name].lane for name in going], samples[:count], told)
            for name in going:
                self.tried[name].figures = found[name]
            self.log.append({"questions": count, "figures": {name: found[name] for name in going}})
            known = {name: self.figures(self.tried[name].speed, found[name], found[OFF]) for name in going}
            self.progress.note(f"{self.kind}s, {count} questions: {frontier(known)}")
            going = survivors(known, self.target)
        return [self.tried[name] for name in going]

    def _neighbours(self, going: list[str], count: int) -> list[str]:
        """New schedules that differ in one thing from those that are left."""
        parents = [genes for name in going if (genes := self.tried[name].genes) is not None]
        before = set(self.tried)
        for _ in range(DRAWS * count if parents else 0):
            if len(self.tried) - len(before) >= count:
                break
            genes = neighbour(self.rng, self.rng.choice(parents), self.kind)
            self._take(express(genes, self.kind, self.session.family), genes, count)
        able = set(self.able())
        return [name for name in self.tried if name not in before and name in able]

    def _ask(
        self, lanes: Sequence[Lane], samples: Sequence[EvalSample], told: str
    ) -> dict[str, dict[str, Any]]:
        """Figures of these and of the reference over all of the samples, by name."""
        lanes = [self.off, *lanes]
        self.results.declare([lane.variant for lane in lanes])
        runner = Runner(lanes, self.results, self.batch_size, cancel=self.cancel, peaks=False)
        done = []
        self.progress(told, 0, len(samples))
        for batch in runner.run([partial(_same, sample) for sample in samples]):
            done += batch
            self.progress(told, len(done), len(samples))
        report = summary(lanes, done, self.results)
        self.failed |= {failure["id"]: failure for failure in report["failed"]}
        return report["all"]["variants"]

    # --- the end ------------------------------------------------------------------------------

    def check(self, found: list[Tried], samples: Sequence[EvalSample]) -> list[Tried]:
        """The finalists, and preset `auto` beside them, on questions that chose nothing, and by the clock."""
        shown = found[:LAST]
        if (auto := self._auto()) is not None:
            shown.append(auto)
        lanes = [one.lane for one in shown]
        told = f"{self.kind}s, check: {len(lanes)} schedules, {len(samples)} questions"
        figures = self._ask(lanes, samples, told)
        self.progress(f"{self.kind}s: timing {len(lanes)} schedules", 0, 1)
        sessions = [lane.session for lane in (self.off, *lanes)]
        try:
            _, *timed = cost.speedups(sessions, self.sized, TIMED_ROUNDS, self.cancel)
        except Cancelled:
            raise
        except Exception as error:
            self.progress.note(f"{self.kind}s: not timed ({error})")
            timed = [None] * len(shown)
        for one, measured in zip(shown, timed, strict=True):
            one.checked, one.measured = figures[one.lane.variant.name], measured
        self.checked = figures[OFF]
        self.off.answers.clear()
        return shown

    def kept(self, chosen: Tried) -> bool:
        """Whether it keeps the target in the check: on its questions, and by the clock if that is speed."""
        if self.target.figure == "speed" and (chosen.measured or chosen.speed) < self.target.bound:
            return False
        return self.target.kept(self.figures(chosen.speed, chosen.checked, self.checked))

    def _auto(self) -> Tried | None:
        """The preset as it is, with what it says beside its stages; None where the model cannot run it."""
        candidate = Candidate(REFERENCE, self.kind, {})
        try:
            config = self.resolve([f"preset={REFERENCE}"])
            lane = Lane(Variant(f"{self.kind}: {REFERENCE}", config), self.session.under(config))
        except UsageError:
            return None
        spent = self._spent(lane)
        return None if spent is None else Tried(candidate, lane, self.whole / spent)


def frontier(known: dict[str, Figures]) -> str:
    """The schedules that no other one beats, in a line: `1.6x 99.1 %, 2.1x 97.5 %`."""
    front = [known[name] for name, depth in layers(known).items() if depth == 0]
    front.sort(key=lambda one: one.speed)
    return ", ".join(f"{one.speed:.2f}x {100 * one.agreement[0]:.1f} % same" for one in front)


def _unlike(samples: Sequence[EvalSample]) -> list[EvalSample]:
    """Those first whose media, and then whose tasks, have not come yet."""
    seen: Counter[Any] = Counter()
    ranked = []
    for sample in samples:
        media = sample.images + sample.videos
        named = all(isinstance(medium, str) for medium in media)
        keys = (media if named else sample.id, sample.task)
        ranked.append((tuple(seen[key] for key in keys), sample))
        seen.update(keys)
    return [sample for _, sample in sorted(ranked, key=lambda pair: pair[0])]


def _same(sample: EvalSample) -> EvalSample:
    return sample
