"""Successive halving: many schedules are asked few questions, the better ones more.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS
2016.
"""

from __future__ import annotations

from collections.abc import Mapping

from illava_cli.tuning.target import Figures, Target

ETA = 3  # of the schedules of a round, one in so many goes on
LAST = 4  # as many as are worth a check


def rounds(questions: int, count: int, least: int) -> list[int]:
    """How many questions are asked up to the end of each round; the last are all of them.

    Args:
        count: schedules of the first round.
        least: questions that tell anything.
    """
    found = [questions]
    while count > LAST and found[0] // ETA >= least:
        found.insert(0, found[0] // ETA)
        count = -(-count // ETA)
    return found


def survivors(figures: Mapping[str, Figures], target: Target) -> list[str]:
    """The schedules that go on, the best by the target first.

    Those that cannot keep the bound leave; of the rest go on the third that is nearest to the frontier of
    speed and loss, but at least `LAST`.
    """
    able = {name: one for name, one in figures.items() if target.may_be_kept(one)} or dict(figures)
    wanted = max(min(LAST, len(able)), -(-len(figures) // ETA))
    depth = layers(able)
    ranked = sorted(able, key=lambda name: (depth[name], target.rank(able[name])))
    return sorted(ranked[:wanted], key=lambda name: target.rank(able[name]))


def layers(figures: Mapping[str, Figures]) -> dict[str, int]:
    """How many frontiers lie before each schedule: 0 where no other is at once as fast and as good."""
    found: dict[str, int] = {}
    left, depth = dict(figures), 0
    while left:
        front = [name for name in left if not any(beats(o, left[name]) for o in left.values())]
        found |= dict.fromkeys(front, depth)
        left = {name: one for name, one in left.items() if name not in front}
        depth += 1
    return found


def beats(one: Figures, other: Figures) -> bool:
    """No slower and loses no more, and better in one of them."""
    return (
        one.speed >= other.speed
        and one.loss <= other.loss
        and (one.speed, one.loss) != (other.speed, other.loss)
    )
