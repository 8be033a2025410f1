"""A decoder's layers, what each takes beside the hidden states, and which tokens each sees.

For most decoders one rope and one mask serve all layers. A family whose layers differ, by kind or by what
they are given, brings a class of its own; both loops ask it and know no family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from illava_cli.models.cache import Places

Rope = tuple[Tensor, Tensor]  # cos and sin (B, T, D), or (3, B, T, D)

ALIKE = ""  # the kind of layers that are all of one
SLIDING = "sliding_attention"  # the kind that sees a window, as `transformers` calls it


def attends(layer: nn.Module) -> bool:
    """Whether a layer has attention over tokens; one of linear attention has states in its place."""
    return hasattr(layer, "self_attn")


class Layers:
    """The layers of a text model of `transformers`.

    Args:
        rope_axes: 1, or 3 for M-RoPE.
    """

    windows: Mapping[str, int] = MappingProxyType({})  # tokens that a layer sees, its own among them, by kind
    borrowing: Sequence[int] = ()  # layers that look at the keys and values of another's
    both_ways: Sequence[str] = ()  # kinds in which an image's tokens see one another

    def __init__(self, text_model: nn.Module, rope_axes: int = 1):
        self.text_model, self.rope_axes = text_model, rope_axes
        self.blocks = list(text_model.layers)
        self.kinds = [ALIKE] * len(self.blocks)
        self.linear = tuple(n for n, layer in enumerate(self.blocks) if not attends(layer))

    def opened(self, embeds: Tensor, position_ids: Tensor) -> tuple[Tensor, dict[str, Rope], Tensor | None]:
        """What the decoder is fed, as its layers take it.

        Args:
            embeds: (B, T, C) and wider, where a family feeds more than embeddings.
            position_ids: (B, T), or (3, B, T).

        Returns:
            Hidden states (B, T, C), rope by kind of layer, and what goes along with each token.
        """
        return embeds, {ALIKE: self.text_model.rotary_emb(embeds, position_ids)}, None

    def shared(self) -> Any:
        """Where layers of one pass leave what later ones take."""
        return None

    def arguments(self, layer: int, along: Tensor | None, shared: Any) -> dict[str, Any]:
        """What a layer takes beside hidden states, rope, mask and cache."""
        return {}

    def norm(self, hidden_states: Tensor) -> Tensor:
        """Behind the last layer."""
        return self.text_model.norm(hidden_states)

    @property
    def tail(self) -> int:
        """The first of the last layers that cache nothing: of a prompt, only its last token matters there."""
        own = [number for number in range(len(self.blocks)) if number not in self.borrowing]
        return own[-1] + 1

    @property
    def whole(self) -> bool:
        """Whether a medium has to go through the layers at once, as its tokens see later ones."""
        return bool(self.both_ways)

    def mask(
        self, layer: int, at: Places, tokens: int, like: Tensor, media: Tensor | None = None
    ) -> Tensor | None:
        """The mask of new tokens in a layer; None where a causal one, or none, says all.

        Args:
            media: (B, T) True for tokens of media, of which each run is one that may see both ways.
        """
        kind = self.kinds[layer]
        backend = self.blocks[layer].self_attn.tap.backend
        window = self.windows.get(kind, at.stop)
        narrow = window < at.stop  # the last token does not see the first
        runs = numbered(media) if kind in self.both_ways and media is not None and tokens > 1 else None
        plain = at.index is None and not narrow and runs is None
        if plain and (tokens == 1 or (at.start == 0 and backend.causal)):
            return None
        if at.index is None:
            own = torch.arange(at.start, at.stop, device=like.device)[None]
        else:
            own = at.index[1].to(like.device)  # (B, T)
        keys = torch.arange(at.stop, device=like.device)
        if backend.mask == "2-D":  # its causal mask ends with the last key, as ours does
            return keys <= own if tokens == 1 else None
        query = own[:, None, :, None]
        seen = keys <= query  # (B, 1, T, K)
        if runs is not None:
            runs = runs.to(like.device)
            of_key = runs.new_full((len(runs), at.stop), -1).scatter(1, own.expand_as(runs), runs)
            seen = seen | ((runs[:, None, :, None] == of_key[:, None, None]) & (runs >= 0)[:, None, :, None])
        if narrow:
            seen = seen & (keys > query - window)
        return torch.zeros_like(seen, dtype=like.dtype).masked_fill_(~seen, torch.finfo(like.dtype).min)


def numbered(members: Tensor) -> Tensor:
    """(B, T) the number of each member's run of neighbours that are members as well; -1 elsewhere."""
    before = torch.nn.functional.pad(members[:, :-1], (1, 0))
    return (members & ~before).cumsum(1).where(members, 0) - 1
