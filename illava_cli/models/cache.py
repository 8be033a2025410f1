"""A KV cache whose deeper layers hold fewer tokens, and what has to be known about them.

Everything that describes the shortened cache lives here and not in the model: batches, later chat
turns and beams stay right, and nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from illava_cli.errors import MergeError
from illava_cli.models.hf import versions
from illava_cli.models.schedule import MergePoint
from illava_cli.trace import NEWLINE, TEXT, VISUAL, DecoderTrace


@dataclass
class Prefill:
    """What the decoder loop needs beside the embeddings of new tokens (B, T), left-padded.

    Args:
        position_ids: (B, T), or (3, B, T) for M-RoPE.
        next_position: the position of each row's first generated token.
        padding: padding tokens on the left of each row.
        kinds: (B, T) `TEXT` (also padding), `VISUAL` or `NEWLINE`.
        groups: (B, T) ranking group of each token that may merge, counted per row from 0; else -1.
        counts: tokens in each group, per row.
        span: first and one-past-last index, over all rows, of the tokens that may merge.
        merge_points: by decoder layer.
        trace: filled where it is wanted.
    """

    position_ids: Tensor
    next_position: list[int]
    padding: list[int]
    kinds: Tensor
    groups: Tensor
    counts: list[list[int]]
    span: tuple[int, int] = (0, 0)
    merge_points: dict[int, MergePoint] = field(default_factory=dict)
    trace: DecoderTrace | None = None

    def lengths(self, layers: int) -> list[int]:
        """New tokens in each of so many layers, padding included: what the schedule says, without a pass."""
        counts, lengths = self.counts, []
        rows = [self.kinds.shape[1] - padding for padding in self.padding]
        for layer in range(layers):
            point = self.merge_points.get(layer)
            if point is not None:
                left = [[point.kept(n) for n in row] for row in counts]
                rows = [n - sum(old) + sum(new) for n, old, new in zip(rows, counts, left, strict=True)]
                counts = left
            lengths.append(max(rows))
        return lengths


@dataclass
class Depth:
    """The cached tokens from one layer on: `valid` (B, L) is False for padding, None where there is none."""

    length: int = 0
    valid: Tensor | None = None

    def copy(self) -> Depth:
        return Depth(self.length, self.valid)

    def extend(self, batch: int, tokens: int, valid: Tensor | None, device: torch.device) -> None:
        """Add `tokens` new ones."""
        if self.valid is not None or valid is not None:
            old = self.valid
            if old is None:
                old = torch.ones(batch, self.length, dtype=torch.bool, device=device)
            if valid is None:
                valid = torch.ones(batch, tokens, dtype=torch.bool, device=device)
            self.valid = torch.cat([old, valid.to(old.device)], dim=1)
        self.length += tokens


class MergeCache(DynamicCache):
    """A `DynamicCache` that also holds the masks of its depths and each row's next position."""

    def __init__(self, config):
        super().__init__(config=config)
        self.depths: dict[int, Depth] = {0: Depth()}
        self.next_position: Tensor | None = None  # (B, 1)
        self.kinds: Tensor | None = None  # (B, L) of the last prefill's tokens behind its last merge
        self.leading_kind: str | None = None  # of the conversation's first media: fixes the schedule
        self._prefill: Prefill | None = None
        self._planned: list[int] = []  # tokens that each layer holds after the prefill that was announced

    def expect(self, prefill: Prefill) -> None:
        """Announce what the next forward pass prefills."""
        self._prefill = prefill
        new = prefill.lengths(len(self.layers))
        self._planned = [held + n for held, n in zip(self._lengths(), new, strict=True)]

    def verify(self, generated: int) -> None:
        """Compare what the layers hold with what the schedule says; the host knows both.

        A pass that went past our loop leaves a right-looking answer and a cache that was never merged.

        Args:
            generated: tokens that were fed back since the prefill.

        Raises:
            MergeError: a layer holds more or fewer tokens than it should.
        """
        if self._prefill is not None:
            raise MergeError(f"merging in the LLM did not happen: the model ran without it ({versions()})")
        for layer, (held, planned) in enumerate(zip(self._lengths(), self._planned, strict=True)):
            if held != planned + generated:
                raise MergeError(
                    f"merging in the LLM did not happen as scheduled: layer {layer} holds {held} tokens, "
                    f"not {planned + generated} ({versions()})"
                )

    def _lengths(self) -> list[int]:
        return [layer.get_seq_length() for layer in self.layers]

    def take_prefill(self) -> Prefill | None:
        """What the coming pass prefills; None for a decoding step."""
        prefill, self._prefill = self._prefill, None
        return prefill

    def snapshot(self) -> tuple:
        """What `restore` needs to forget everything that comes after."""
        lengths = self._lengths()
        depths = {first: depth.copy() for first, depth in self.depths.items()}
        return lengths, depths, self.next_position, self.kinds, self.leading_kind

    def restore(self, snapshot: tuple) -> None:
        """Back to a snapshot, after a pass that failed midway."""
        lengths, self.depths, self.next_position, self.kinds, self.leading_kind = snapshot
        self._prefill = None
        for index, layer in enumerate(self.layers):
            length = lengths[index] if index < len(lengths) else 0
            layer.crop(min(0, length - layer.get_seq_length()))

    def depth_at(self, layer: int) -> int:
        """The first layer of the depth that `layer` belongs to."""
        return max(first for first in self.depths if first <= layer)

    def open_depth(self, layer: int) -> None:
        """Let `layer` begin a depth of its own; until now it held the same tokens as the layer before."""
        if layer not in self.depths:
            self.depths[layer] = self.depths[self.depth_at(layer)].copy()
            self.depths = dict(sorted(self.depths.items()))

    def _map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        for depth in self.depths.values():
            if depth.valid is not None:
                depth.valid = change(depth.valid)
        for name in ("next_position", "kinds"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, change(value))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._map_rows(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._map_rows(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._map_rows(lambda x: x[indices.to(x.device)])


__all__ = ["NEWLINE", "TEXT", "VISUAL", "Depth", "MergeCache", "Prefill"]
