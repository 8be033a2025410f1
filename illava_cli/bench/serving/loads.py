"""Loads: so many clients at once, or so many requests a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Load:
    """A load.

    `clients` ask again as soon as they have their answers, so that a slow server is asked less (a closed
    loop). At a `rate` requests come when they come, whatever the server does (an open loop): its queue grows
    where it is too slow.

    Args:
        value: how many clients, or requests a second.
    """

    kind: Literal["clients", "rate"]
    value: float

    @property
    def label(self) -> str:
        """`16 clients`, `2.5/s`."""
        if self.kind == "rate":
            return f"{self.value:g}/s"
        return "1 client" if self.value == 1 else f"{self.value:g} clients"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "value": self.value, "label": self.label}


@dataclass(frozen=True)
class Extent:
    """How long a load is kept up.

    Args:
        requests: that are counted; None: as many as there are in `seconds`.
        warmup: requests before those.
    """

    requests: int | None
    seconds: float | None
    warmup: int


def arrivals(rate: float, extent: Extent, seed: int | list[int]) -> list[float]:
    """When requests come, in seconds from the beginning: a Poisson process, the same for the same seed.

    Args:
        rate: a second.
    """
    random = np.random.default_rng(seed)
    if extent.requests is not None:
        return np.cumsum(random.exponential(1 / rate, extent.requests)).tolist()
    times, now = [], 0.0
    while (now := now + random.exponential(1 / rate)) < extent.seconds:
        times.append(float(now))
    return times
