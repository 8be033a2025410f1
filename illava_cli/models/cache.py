"""A KV cache of rows that join and leave, whose deeper layers hold fewer tokens.

A row's tokens stand at the beginning of its place, so that what a shorter row does not have lies after it. A
merge before a layer begins a *depth*: the layers from there on hold as many tokens as one another. Everything
that describes the shortened cache lives here and not in the model.

Memory grows by a share of what there is, and where a row leaves the last one takes its place: no row is moved
more than an amortised constant number of times per token or row that comes or goes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from transformers import Cache

from illava_cli.errors import MergeError
from illava_cli.models.hf import versions
from illava_cli.models.host import to_device
from illava_cli.models.states import Chosen, LinearStates

GROWTH = 1.25  # of the room for tokens
ROOM = 32  # tokens by which it grows at least
GENERATIONS = count()


@dataclass(frozen=True)
class Places:
    """Where a pass writes in one depth.

    Args:
        rows: B.
        start: index of the first new token, where it is the same in all rows.
        index: else (B, 1) and (B, T), the rows and the index of each new token.
        stop: keys up to here are seen.
    """

    rows: int
    start: int | None
    index: tuple[Tensor, Tensor] | None
    stop: int

    @staticmethod
    def of(held: list[int], tokens: int, device: torch.device) -> Places:
        """For so many new tokens after those that each row holds."""
        stop = max(held) + tokens
        if min(held) == max(held):
            return Places(len(held), held[0], None, stop)
        return Places.at(to_device(held, device), tokens, stop)

    @staticmethod
    def at(start: Tensor, tokens: int, stop: int) -> Places:
        """For so many new tokens from `start` (B,) on."""
        row = torch.arange(len(start), device=start.device)[:, None]
        place = start[:, None] + torch.arange(tokens, device=start.device)
        return Places(len(start), None, (row, place), stop)


class MergeCache(Cache):
    """Keys and values of B rows in every layer, (B, H, L, D), with what each row holds.

    A layer of linear attention has states instead, which are there once and not for each token.

    Args:
        layers: of the decoder.
        linear: which of them have linear attention.
        borrowing: which look at the keys and values of another's, and hold none.
    """

    def __init__(self, layers: int, linear: Collection[int] = (), borrowing: Collection[int] = ()):
        super().__init__(layers=[])
        self._borrowing = frozenset(borrowing)
        self.states = {layer: LinearStates() for layer in linear}
        self.layers = [self.states.get(layer) for layer in range(layers)]  # where `transformers` looks
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.depths: dict[int, list[int]] = {0: []}  # first layer -> tokens of each row
        self.next_position: list[int] = []  # of each row
        self.places: dict[int, Places] = {}  # by depth, of the pass that runs
        self.generation = next(GENERATIONS)  # of its memory: whoever recorded addresses looks
        self._written = [0] * layers

    @property
    def rows(self) -> int:
        return len(self.next_position)

    def depth_at(self, layer: int) -> int:
        """The first layer of the depth that `layer` belongs to."""
        return max(first for first in self.depths if first <= layer)

    def lengths(self, layer: int = 0) -> list[int]:
        """Tokens of each row in a layer."""
        return self.depths[self.depth_at(layer)]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest row in a layer."""
        return max(self.lengths(layer_idx), default=0)

    # --- a pass -----------------------------------------------------------------------------------

    def begin(self, rows: int) -> None:
        """Take in the first rows, which hold nothing yet."""
        self.next_position = [0] * rows
        self.depths = {first: [0] * rows for first in self.depths}

    def open_depth(self, layer: int) -> None:
        """Let `layer` begin a depth of its own; until now it held the same tokens as the layer before."""
        if layer not in self.depths:
            self.depths[layer] = list(self.lengths(layer))
            self.depths = dict(sorted(self.depths.items()))

    def place(self, tokens: int, device: torch.device, first: int = 0, stop: int | None = None) -> None:
        """Set `places` for a pass of `tokens` new ones a row through the layers `first` to `stop`."""
        for depth, held in self.depths.items():
            if depth >= first and (stop is None or depth < stop):
                self.places[depth] = Places.of(held, tokens, device)

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs):
        """Keys and values (B, H, T, D) of new tokens into a layer -> all that the rows hold there."""
        at = self.places[self.depth_at(layer_idx)]
        self._written[layer_idx] += key_states.shape[2]
        seen = []
        for held, new in ((self.keys, key_states), (self.values, value_states)):
            self._reserve(held, layer_idx, new, at.rows, at.stop)
            room = held[layer_idx]
            if at.index is None:
                room[: at.rows, :, at.start : at.stop] = new
            else:
                row, place = (x.to(new.device) for x in at.index)
                room[row, :, place] = new.transpose(1, 2)
            seen.append(room[: at.rows, :, : at.stop])
        return tuple(seen)

    def among(self, layer: int, chosen: Chosen, tokens: int) -> None:
        """Let the next pass through a layer of linear attention be of these rows, with so many tokens each.

        They either all hold something or all nothing.
        """
        held = self.lengths(layer)
        first = chosen.start or 0 if isinstance(chosen, slice) else chosen[0]
        self.states[layer].among(chosen, tokens, fresh=not held[first] if first < len(held) else False)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        states = self.states[layer_idx]
        return states.conv_states[state_idx] if states.has_previous_state else None

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        states = self.states[layer_idx]
        return states.recurrent_states[state_idx] if states.has_previous_state else None

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, *, conv_kernel_size: int
    ) -> Tensor:
        return self.states[layer_idx].update_conv_state(conv_states, conv_kernel_size)

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs
    ) -> Tensor:
        return self.states[layer_idx].update_recurrent_state(recurrent_states)

    def has_previous_state(self, layer_idx: int, state_idx: int = 0) -> bool:
        return self.states[layer_idx].has_previous_state

    def is_recording_past(self, layer_idx: int) -> bool:
        return False

    def extend(self, new: Sequence[int], first: int = 0, stop: int | None = None) -> None:
        """Count `new` tokens of each row in the layers `first` to `stop`."""
        for depth, held in self.depths.items():
            if depth >= first and (stop is None or depth < stop):
                self.depths[depth] = [n + more for n, more in zip(held, new, strict=True)]

    def count_step(self) -> None:
        """Count one token more of each row in all layers."""
        self._forget_counts()
        self.extend([1] * self.rows)
        self.next_position = [position + 1 for position in self.next_position]

    def verify(self, planned: Sequence[int]) -> None:
        """Compare the new tokens that each layer took with what the schedule says; the host knows both.

        Raises:
            MergeError: a layer took more or fewer, as where a merge did not happen.
        """
        written = [self.states[n].taken if n in self.states else w for n, w in enumerate(self._written)]
        self._forget_counts()
        for layer, (taken, expected) in enumerate(zip(written, planned, strict=True)):
            if taken != expected and layer not in self._borrowing:
                raise MergeError(
                    f"merging in the LLM did not happen as scheduled: layer {layer} took {taken} new tokens, "
                    f"not {expected} ({versions()})"
                )

    def _forget_counts(self) -> None:
        self._written = [0] * len(self.keys)
        for states in self.states.values():
            states.taken = 0

    # --- rows -------------------------------------------------------------------------------------

    def join(self, other: MergeCache, chosen: Sequence[int] | None = None) -> None:
        """Take in copies of another cache's rows, after those that are here.

        Args:
            chosen: which ones, in this order; a row may come several times. None: each once.
        """
        chosen = list(range(other.rows)) if chosen is None else list(chosen)
        source = slice(other.rows) if chosen == list(range(other.rows)) else chosen
        for cache, example in ((self, other), (other, self)):
            for layer in example.depths:
                cache.open_depth(layer)
        rows = self.rows
        for own, new in ((self.keys, other.keys), (self.values, other.values)):
            for layer, there in enumerate(new):
                length = other.get_seq_length(layer)
                if length and there is not None:
                    self._reserve(own, layer, there, rows + len(chosen), length)
                    room = own[layer][rows : rows + len(chosen)]
                    room[:, :, :length] = there[source, :, :length]
                    room[:, :, length:] = 0  # what a row leaves behind may not be a number
        for layer, states in self.states.items():
            states.join(rows, other.states[layer], chosen)
        for first, held in self.depths.items():
            self.depths[first] = held + [other.depths[first][row] for row in chosen]
        self.next_position = self.next_position + [other.next_position[row] for row in chosen]

    def leave(self, row: int) -> None:
        """Let a row go; the last one takes its place."""
        last = self.rows - 1
        if row != last:
            for held in (self.keys, self.values):
                for layer, room in enumerate(held):
                    if room is not None:
                        length = self.lengths(layer)[last]
                        room[row, :, :length] = room[last, :, :length]
                        room[row, :, length:] = 0
            for states in self.states.values():
                states.move(last, row)
        for held in (*self.depths.values(), self.next_position):
            held[row] = held[last]
            del held[last]

    def clear(self) -> None:
        """Let all rows go; the memory stays."""
        self.depths, self.next_position = {0: []}, []

    def follow(self, other: MergeCache, row: int) -> None:
        """Take in what a copy of this cache's only row has got in another cache since; where this one has no
        row, all of that one's."""
        if not self.rows:
            self.begin(1)
        for layer in other.depths:
            self.open_depth(layer)
        for own, there in ((self.keys, other.keys), (self.values, other.values)):
            for layer, room in enumerate(there):
                start, stop = self.lengths(layer)[0], other.lengths(layer)[row]
                if room is not None:
                    self._reserve(own, layer, room, 1, stop)
                    own[layer][0, :, start:stop] = room[row, :, start:stop]
        for layer, states in self.states.items():
            states.follow(other.states[layer], row)
        self.depths = {first: [other.lengths(first)[row]] for first in self.depths}
        self.next_position = [other.next_position[row]]

    def select(self, rows: Sequence[int]) -> None:
        """Hold copies of these rows alone, in this order; a row may come several times."""
        for held in (self.keys, self.values):
            for layer, room in enumerate(held):
                if room is not None:
                    held[layer] = room[list(rows)]
        for states in self.states.values():
            states.select(rows)
        self.depths = {first: [held[row] for row in rows] for first, held in self.depths.items()}
        self.next_position = [self.next_position[row] for row in rows]
        self.generation = next(GENERATIONS)

    def snapshot(self) -> tuple:
        """What `restore` needs to forget every token that comes after."""
        depths = {first: list(held) for first, held in self.depths.items()}
        return depths, list(self.next_position), self.state_copies()

    def state_copies(self) -> dict[int, tuple[Tensor, Tensor] | None]:
        """By layer of linear attention, its rows' states: a later one holds no way back to them."""
        return {layer: states.copies(self.rows) for layer, states in self.states.items()}

    def restore_states(self, copies: dict[int, tuple[Tensor, Tensor] | None]) -> None:
        """Put back what `state_copies` gave."""
        for layer, states in self.states.items():
            states.restore(copies[layer])

    def restore(self, snapshot: tuple) -> None:
        """Back to a snapshot, after a pass that failed midway."""
        depths, next_position, states = snapshot
        self.restore_states(states)
        self.depths, self.next_position = (
            {first: list(held) for first, held in depths.items()},
            list(next_position),
        )
        self._forget_counts()

    @property
    def nbytes(self) -> int:
        """Memory of all that is held."""
        rooms = sum(room.nbytes for room in (*self.keys, *self.values) if room is not None)
        return rooms + sum(states.nbytes for states in self.states.values())

    def reserve(self, rows: int, stops: dict[int, int]) -> None:
        """Room for so many rows, and for keys up to `stops` by depth, in a cache that holds some."""
        for held in (self.keys, self.values):
            for layer, room in enumerate(held):
                if room is not None:
                    self._reserve(held, layer, room, rows, stops[self.depth_at(layer)])
        for states in self.states.values():
            if states.reserve(rows):
                self.generation = next(GENERATIONS)

    def _reserve(self, held: list, layer: int, like: Tensor, rows: int, tokens: int) -> None:
        """Room for so many rows and tokens, in zeros: what is masked has to be a number."""
        room = held[layer]
        there = (0, 0) if room is None else (room.shape[0], room.shape[2])
        if there[0] >= rows and there[1] >= tokens:
            return
        if 0 < there[0] < rows:
            rows = max(rows, there[0] + there[0] // 2)
        if tokens > there[1]:
            tokens = max(tokens + ROOM, int(there[1] * GROWTH)) // ROOM * ROOM
        wider = like.new_zeros(max(rows, there[0]), like.shape[1], max(tokens, there[1]), like.shape[3])
        if room is not None:
            wider[: there[0], :, : there[1]] = room
        held[layer] = wider
        self.generation = next(GENERATIONS)
