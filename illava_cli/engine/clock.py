"""How long each layer of tower and decoder takes in an ordinary request, by hooks at their borders."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from illava_cli.engine.generation import synchronize
from illava_cli.models.family import Family


class LayerClock:
    """`with LayerClock(family) as clock: session.ask(...)`, then `clock.tower` and `clock.llm`.

    Seconds by layer: of the tower all passes together, of the decoder the prefill alone. On CUDA the device
    is waited for at each border, which makes a request a little slower.
    """

    def __init__(self, family: Family):
        self.family = family
        self.tower = [0.0] * family.tower_layers
        self.llm: list[float] = []
        self._started = 0.0
        self._hooks = ExitStack()

    def __enter__(self) -> LayerClock:
        for layer, block in enumerate(self.family.tower_blocks()):
            if layer < len(self.tower):
                # where a layer merges the tower's loop runs its parts and not the block: both are watched
                norm, *_, mlp = self.family.block_parts.of(block)
                self._watch(block, block, partial(self._add, layer))
                self._watch(norm, mlp, partial(self._add, layer))
        for layer, block in enumerate(self.family.text_model.layers):
            self._watch(block, block, partial(self._append, layer))
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _watch(self, first: nn.Module, last: nn.Module, done: Callable[[], None]) -> None:
        def at(border: Callable[[], None]) -> Callable[..., None]:
            # within a compiled block there is no clock: the block's own borders are outside of it
            return lambda *args: None if torch.compiler.is_compiling() else border()

        before = first.register_forward_pre_hook(at(self._start))
        behind = last.register_forward_hook(at(done))
        self._hooks.callback(before.remove)
        self._hooks.callback(behind.remove)

    def _now(self) -> float:
        synchronize(self.family.device)
        return time.perf_counter()

    def _start(self) -> None:
        self._started = self._now()

    def _add(self, layer: int) -> None:
        now = self._now()
        self.tower[layer] += now - self._started
        self._started = now

    def _append(self, layer: int) -> None:
        if layer == len(self.llm):  # later passes are steps of decoding
            self.llm.append(self._now() - self._started)
