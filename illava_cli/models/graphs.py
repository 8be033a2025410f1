"""Decoding steps as CUDA graphs: one launch in the place of the hundreds that a small step would wait for.

A graph has fixed addresses and shapes. So a step runs for a number of rows and of keys that is rounded up;
what is beyond a row's own is masked, and rows that are not there write into places that nobody reads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from illava_cli.models.cache import MergeCache, Places
from illava_cli.models.decoder import run_step
from illava_cli.models.family import Family
from illava_cli.models.host import to_device

KEYS = 256  # keys of a graph are a multiple of this
KEPT = 16  # graphs at a time

Recorder = Callable[[Callable[[], None]], Callable[[], None]]


def recorded(run: Callable[[], None]) -> Callable[[], None]:
    """`run` as a CUDA graph; it has to be run before, that kernels are chosen and memory is taken."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@dataclass
class _Step:
    """A step of fixed shape: its inputs, which are written before each replay, and its output."""

    tokens: Tensor  # (B, 1)
    position_ids: Tensor  # (B, 1)
    starts: dict[int, Tensor]  # (B,) by depth, where each row's token goes
    logits: Tensor | None = None  # (B, vocabulary)
    replay: Callable[[], None] = field(default=lambda: None)


class StepGraphs:
    """Steps of a model, each shape recorded when it first occurs.

    Args:
        record: what makes a replay of a function.
    """

    def __init__(self, family: Family, record: Recorder = recorded):
        self.family, self.record = family, record
        self._steps: OrderedDict[tuple, _Step] = OrderedDict()
        self._generation = -1  # of the memory that these steps know

    def step(self, tokens: Sequence[int], cache: MergeCache) -> Tensor:
        """Feed each row's token -> (B, vocabulary)."""
        device, count = self.family.device, len(tokens)
        rows = 1 << (count - 1).bit_length()
        stops = {depth: -(-(max(held) + 1) // KEYS) * KEYS for depth, held in cache.depths.items()}
        cache.reserve(rows, stops)
        if cache.generation != self._generation:
            self._steps.clear()
            self._generation = cache.generation
        key = (rows, *stops.items())
        if key not in self._steps:
            self._steps[key] = self._recorded(rows, stops, cache)
            while len(self._steps) > KEPT:
                self._steps.popitem(last=False)
        self._steps.move_to_end(key)
        step = self._steps[key]
        filled = [0] * (rows - count)
        step.tokens.copy_(to_device([*tokens, *filled], device)[:, None])
        step.position_ids.copy_(to_device([*cache.next_position, *filled], device)[:, None])
        for depth, held in cache.depths.items():
            step.starts[depth].copy_(to_device([*held, *filled], device))
        step.replay()
        cache.count_step()
        return step.logits[:count]

    def _recorded(self, rows: int, stops: dict[int, int], cache: MergeCache) -> _Step:
        family = self.family

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.long, device=family.device)

        step = _Step(zeros(rows, 1), zeros(rows, 1), {depth: zeros(rows) for depth in stops})
        # what a row holds is read while recording: these places are beyond all that is there
        for depth, start in step.starts.items():
            start.fill_(stops[depth] - 1)

        def run() -> None:
            cache.places = {depth: Places.at(start, 1, stops[depth]) for depth, start in step.starts.items()}
            embeds = family.embed(step.tokens)
            hidden = run_step(family.layers, embeds, step.position_ids, cache)
            step.logits = family.logits(hidden)

        held = cache.state_copies()  # what recording runs would be in the states of all rows
        step.replay = self.record(run)
        cache.restore_states(held)
        return step
