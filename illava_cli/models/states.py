"""What a layer of linear attention holds of each row, in the place of keys and values.

Its size does not grow with the tokens, and nothing in it can be taken back: a convolution's last inputs, and
the state of a recurrence (gated delta rule, arXiv 2412.06464). Rows are kept as in `MergeCache`, which see.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Chosen = slice | list[int]


class LinearStates:
    """The states of B rows in one layer, by the names that `transformers`' layers look for.

    Args:
        conv: (B, C, K) last inputs of the convolution.
        recurrent: (B, H, K, V).
    """

    record_past = False  # of `transformers`: whether a later crop is to be possible

    def __init__(self):
        self.conv: Tensor | None = None
        self.recurrent: Tensor | None = None
        self._chosen: Chosen = slice(0)
        self._fresh = True
        self._tokens = 0
        self.taken = 0

    def among(self, chosen: Chosen, tokens: int, fresh: bool) -> None:
        """Let the next pass be of these rows.

        Args:
            tokens: of each row, counted when the state has taken them.
            fresh: they hold nothing yet.
        """
        self._chosen, self._tokens, self._fresh = chosen, tokens, fresh

    # --- what `transformers` calls -------------------------------------------------------------------

    @property
    def has_previous_state(self) -> bool:
        return not self._fresh

    @property
    def conv_states(self) -> dict[int, Tensor]:
        return {0: self.conv[self._chosen]}

    @property
    def recurrent_states(self) -> dict[int, Tensor]:
        return {0: self.recurrent[self._chosen]}

    def update_conv_state(self, states: Tensor, conv_kernel_size: int) -> Tensor:
        """New inputs (B, C, T) of the convolution -> those before them, as far as it looks, and these."""
        if self._fresh:
            whole = torch.nn.functional.pad(states, (max(0, conv_kernel_size - states.shape[2]), 0))
        else:
            whole = torch.cat([self.conv[self._chosen], states], dim=2)
        self.conv = self._put(self.conv, whole[..., -conv_kernel_size:])
        return whole

    def update_recurrent_state(self, states: Tensor) -> Tensor:
        """The state (B, H, K, V) after all new tokens."""
        self.recurrent = self._put(self.recurrent, states)
        self._fresh, self.taken, self._tokens = False, self.taken + self._tokens, 0
        return states

    def _put(self, room: Tensor | None, states: Tensor) -> Tensor:
        rows = self._chosen.stop if isinstance(self._chosen, slice) else max(self._chosen) + 1
        room = _with_room(room, states, rows)
        room[self._chosen] = states.to(room.dtype)
        return room

    # --- rows ----------------------------------------------------------------------------------------

    # a conversation goes back between passes, where tensors that a pass has made take nothing in place

    def _mapped(self, change) -> None:
        if self.recurrent is not None:
            self.conv, self.recurrent = change(self.conv), change(self.recurrent)

    def reserve(self, rows: int) -> bool:
        """Room for so many rows; whether there was less."""
        before = self.recurrent
        self._mapped(lambda room: _with_room(room, room, rows))
        return self.recurrent is not before

    @torch.inference_mode()
    def join(self, rows: int, other: LinearStates, chosen: Sequence[int]) -> None:
        """Copies of `chosen` of another's rows, after the first `rows` of these."""
        if other.recurrent is None:
            return
        own = slice(rows, rows + len(chosen))
        self.conv = _with_room(self.conv, other.conv, own.stop)
        self.recurrent = _with_room(self.recurrent, other.recurrent, own.stop)
        self.conv[own], self.recurrent[own] = other.conv[list(chosen)], other.recurrent[list(chosen)]

    @torch.inference_mode()
    def move(self, source: int, row: int) -> None:
        """Let a row be as another is."""
        if self.recurrent is not None:
            for room in (self.conv, self.recurrent):
                room[row] = room[source]

    def follow(self, other: LinearStates, row: int) -> None:
        """Let the only row be as one of another's."""
        self.join(0, other, [row])

    def select(self, rows: Sequence[int]) -> None:
        """Copies of these rows alone."""
        self._mapped(lambda room: room[list(rows)])

    def copies(self, rows: int) -> tuple[Tensor, Tensor] | None:
        """The states of the first rows, to be put back with `restore`."""
        return None if self.recurrent is None else (self.conv[:rows].clone(), self.recurrent[:rows].clone())

    @torch.inference_mode()
    def restore(self, copies: tuple[Tensor, Tensor] | None) -> None:
        """Put back what `copies` gave."""
        if copies is not None:
            conv, recurrent = copies
            self.conv[: len(conv)], self.recurrent[: len(recurrent)] = conv, recurrent
        self.taken = 0

    @property
    def nbytes(self) -> int:
        return 0 if self.recurrent is None else self.conv.nbytes + self.recurrent.nbytes


def _with_room(room: Tensor | None, like: Tensor, rows: int) -> Tensor:
    """`room` for so many rows, in zeros."""
    if room is not None and len(room) >= rows:
        return room
    there = 0 if room is None else len(room)
    wider = like.new_zeros(max(rows, there + there // 2), *like.shape[1:])
    if room is not None:
        wider[:there] = room
    return wider
