"""What a search is for: a speed, an agreement, or an accuracy that may be lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from illava_cli.errors import UsageError

FORMS = "speed=2x, agreement=98% or accuracy=-0.5"
SPEED, AGREEMENT, ACCURACY = "speed", "agreement", "accuracy"
UNITS = {SPEED: "x", AGREEMENT: "%"}


@dataclass(frozen=True)
class Figures:
    """Of one schedule.

    Args:
        speed: operations of the unmodified model up to the first token over its own.
        agreement: share of answers that are the unmodified model's, with the upper end of its interval.
        kl: mean divergence of the first token's distribution, in nats.
        accuracy: change of the share of right answers, with the upper end; None where none is known.
    """

    speed: float
    agreement: tuple[float, float]
    kl: float
    accuracy: tuple[float, float] | None = None

    @property
    def loss(self) -> tuple[float, float]:
        """What is lost, to sort by: answers, then divergence.

        Of right answers, where it is known which are, only a loss that is no chance: a few questions more or
        less say little, and the divergence tells schedules apart that they do not.
        """
        return -self.agreement[0] if self.accuracy is None else max(0.0, -self.accuracy[1]), self.kl


@dataclass(frozen=True)
class Target:
    """A bound on one figure; of the schedules that keep it the best in the other is wanted.

    Args:
        figure: `speed` (at least so many times), `agreement` (at least that share) or `accuracy` (a change of
            at least that share).
    """

    figure: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """`speed=2x`, `agreement=98%`, `accuracy=-0.5` (points).

        Raises:
            UsageError: it is none of these.
        """
        figure, _, said = text.partition("=")
        figure, said = figure.strip(), said.strip()
        try:
            value = float(said.removesuffix(UNITS.get(figure, "")))
        except ValueError:
            value = math.nan
        share = value / 100
        # an agreement of 0.98 is meant as a share: as a percentage almost every schedule would keep it
        able = {SPEED: 1 <= value < math.inf, AGREEMENT: 1 < value <= 100, ACCURACY: -1 <= share <= 0}
        if not able.get(figure, False):
            raise UsageError(f"--target {text}: expected {FORMS}")
        return cls(figure, value if figure == SPEED else share)

    def __str__(self) -> str:
        if self.figure == SPEED:
            return f"speed={self.bound:g}x"
        sign = "%" if self.figure == AGREEMENT else ""
        return f"{self.figure}={100 * self.bound:g}{sign}"

    def kept(self, figures: Figures) -> bool:
        """Whether a schedule keeps the bound."""
        return self._value(figures, 0) >= self.bound

    def may_be_kept(self, figures: Figures) -> bool:
        """Whether it may yet, as the questions asked so far have it."""
        return self._value(figures, 1) >= self.bound

    def rank(self, figures: Figures) -> tuple:
        """To sort schedules by, the best first: those that keep the bound before those that miss it least."""
        if not self.kept(figures):
            return 1, self.bound - self._value(figures, 0), *figures.loss
        if self.figure == SPEED:
            return 0, *figures.loss, -figures.speed
        return 0, -figures.speed, *figures.loss

    def _value(self, figures: Figures, end: int) -> float:
        if self.figure == SPEED:
            return figures.speed
        if self.figure == AGREEMENT:
            return figures.agreement[end]
        return figures.accuracy[end] if figures.accuracy is not None else -math.inf
