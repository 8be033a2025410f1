"""What is set up once for all measurements: the loaded model, its unmodified twin, a session per preset."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illava_cli.bench import stock
from illava_cli.bench.geometry import model_shape
from illava_cli.bench.media import Medium
from illava_cli.bench.variants import Ours, Stock, never_end
from illava_cli.config.settings import Config
from illava_cli.engine.session import Session
from illava_cli.errors import UsageError

STOCK, OFF = "transformers", "off"
WARM_TOKENS = 2  # one prefill and one decoding step


@dataclass(frozen=True)
class Plan:
    """How often a request is measured.

    Args:
        new_tokens: tokens of each answer.
        rounds: measurements of each variant, interleaved.
        deadline: when all should be over (`time.perf_counter()`); a first round is always run.
    """

    new_tokens: int
    rounds: int
    deadline: float | None = None

    def has_time(self, seconds: float) -> bool:
        """Whether something of that length ends before the deadline."""
        return self.deadline is None or time.perf_counter() + seconds <= self.deadline

    def each_round(self) -> Iterator[int]:
        """Numbers of rounds, while there is time for one as long as the longest so far."""
        longest = 0.0
        for number in range(self.rounds):
            if number and not self.has_time(longest):
                return
            started = time.perf_counter()
            yield number
            longest = max(longest, time.perf_counter() - started)


def in_turn(variants: dict[str, Any], number: int) -> list[tuple[str, Any]]:
    """The variants in the order of a round: there and back, so that none always follows the same one."""
    order = list(variants.items())
    return order[::-1] if number % 2 else order


class Lab:
    """A loaded model with its unmodified twin and a session for each preset."""

    def __init__(self, session: Session, configs: dict[str, Config]):
        """
        Args:
            session: has loaded the model and has answered nothing yet.
            configs: by name of the preset, all of the same model.
        """
        never_end(session.model)
        self.session, self.family = session, session.family
        self.shape = model_shape(self.family)
        self.sessions = {name: session.under(config) for name, config in configs.items()}
        if any(session.guide is not None for session in self.sessions.values()):
            raise UsageError(
                "illava bench counts the operations on all of a medium, of which a guide shows a part: "
                "use illava compare"
            )
        self.stock = stock.stock_model(self.family)
        self.numbers = 0

    def variants(self, medium: Medium, batch: int) -> dict[str, Stock | Ours]:
        """By name, the unmodified model first."""
        ours = {}
        for name, session in self.sessions.items():
            config = session.config.model_copy(update={"media": medium.options})
            ours[name] = Ours(session.under(config), medium, batch)
        return {STOCK: Stock(self.family, self.stock, medium, batch)} | ours

    def next_number(self, batch: int) -> int:
        """The number of a request whose pixels nobody has seen; each row of a batch takes one."""
        first = self.numbers
        self.numbers += batch
        return first

    def describe(self) -> dict[str, Any]:
        """The model in the report."""
        model = self.session.model
        weights = {p.data_ptr(): p for p in model.parameters()}.values()  # tied weights count once
        text = self.session.describe()
        return {
            "id": reported_name(text["model"]),
            "family": text["family"],
            "device": text["device"],
            "dtype": text["dtype"],
            "attn": text["attn"],
            "parameters": sum(p.numel() for p in weights),
            "weight_bytes": sum(p.numel() * p.element_size() for p in weights),
            "load_s": self.session.load_seconds,
        }


def reported_name(model: str) -> str:
    """A model's id; of a folder only its name."""
    return Path(model).name if Path(model).is_dir() else model
