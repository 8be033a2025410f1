"""One question with merging off and on: both answers, what they took, and how far they agree."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from illava_cli.engine.clock import LayerClock
from illava_cli.engine.memory import PeakMeter
from illava_cli.engine.record import Generation
from illava_cli.engine.session import Session
from illava_cli.errors import Cancelled
from illava_cli.evals.statistics import divergence
from illava_cli.evals.variants import unmerged


@dataclass(frozen=True)
class Agreement:
    """How far two answers agree.

    Args:
        same: token for token.
        first_difference: index of the first token in which they differ; None where they do not.
        kl: divergence of the first token's distribution from the unmodified model's, in nats; None where
            it is not finite.
    """

    same: bool
    first_difference: int | None
    kl: float | None


@dataclass(frozen=True)
class Pair:
    """Both answers; `peak_bytes` of each are beyond the weights, None where it cannot be known."""

    plain: Generation
    merged: Generation
    plain_peak: int | None
    merged_peak: int | None
    agreement: Agreement

    def record(self) -> dict[str, Any]:
        """The merged answer's record; under `compared` the unmodified model's, and the agreement."""
        merged, plain = self.merged.record(), self.plain.record()
        merged["memory"]["peak_bytes_beyond_weights"] = self.merged_peak
        plain["memory"]["peak_bytes_beyond_weights"] = self.plain_peak
        return merged | {"compared": {"plain": plain, "agreement": asdict(self.agreement)}}


def agreement(plain: Generation, merged: Generation) -> Agreement:
    """How far two answers agree; both with their logits."""
    pairs = enumerate(zip(plain.token_ids, merged.token_ids, strict=False))
    first = next((index for index, (a, b) in pairs if a != b), None)
    if first is None and len(plain.token_ids) != len(merged.token_ids):
        first = min(len(plain.token_ids), len(merged.token_ids))
    kl = divergence(plain.logits, merged.logits)
    return Agreement(first is None, first, kl if math.isfinite(kl) else None)


def ask_both(
    session: Session,
    prompt: str,
    images: Sequence[Any],
    videos: Sequence[Any],
    *,
    cancel: threading.Event,
    clock: LayerClock | None = None,
    id: str = "",
) -> Pair:
    """Ask a loaded model with merging off, which is the unmodified model, and as it is configured.

    Each is first asked for one token, which warms it up and shows its peak memory: the clock never runs while
    memory is watched.

    Args:
        images, videos: what can be read several times.
        cancel: set to stop.
        clock: times the layers of the merged answer.

    Raises:
        Cancelled: it was stopped.
    """
    merged = session.under(session.config).with_merging(session.merging)
    plain = session.under(unmerged(session.config))
    peaks = []
    for lane in (plain, merged):
        with PeakMeter(session.family.device) as meter:
            short(lane).ask(prompt, images, videos, cancel=cancel)
        peaks.append(meter.peak_bytes)
        _stop_if(cancel)
    answers = []
    for lane, watch in ((plain, None), (merged, clock)):
        with watch or nullcontext():
            answers.append(lane.ask(prompt, images, videos, cancel=cancel, id=id, logits=True))
        _stop_if(cancel)
    return Pair(*answers, *peaks, agreement(*answers))


def short(session: Session) -> Session:
    """The same session for answers of one token."""
    generation = session.config.generation.model_copy(update={"max_tokens": 1})
    return session.asking(session.config.model_copy(update={"generation": generation}))


def _stop_if(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("a comparison was cancelled before it had both answers")
