"""`transformers`' own tower and decoder layers, opened up so that a reduction can stand in them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from illava_cli.models.hf import (
    ALL_ATTENTION_FUNCTIONS,
    Qwen2DecoderLayer,
    Qwen2RotaryEmbedding,
    SiglipEncoderLayer,
    apply_rotary_pos_emb,
)


@dataclass(frozen=True)
class Attended:
    """What an attention leaves: (B, N, C), (B, H, N, D), (B, H_kv, N, D), and the map where it was made."""

    hidden_states: Tensor
    query: Tensor
    key: Tensor
    weights: Tensor | None  # (B, H, N, N)


@dataclass(frozen=True)
class Layer:
    """A pre-norm layer by its parts.

    Args:
        rope: cosines and sines (1, N, D) of a decoder layer.
        mask: (1, 1, N, N) additive causal mask for eager attention; None where all see all.
    """

    norm1: nn.Module
    attention: nn.Module
    out: nn.Module
    norm2: nn.Module
    perceptron: nn.Module
    rope: tuple[Tensor, Tensor] | None = None
    mask: Tensor | None = None

    @property
    def scaling(self) -> float:
        return self.attention.head_dim**-0.5

    def attend(self, x: Tensor, full_map: bool = False) -> Attended:
        """`x` (B, N, C) with attention added: SDPA, or eager where the full map is wanted."""
        attention, normed = self.attention, self.norm1(x)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        query, key, value = (
            p(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for p in projections
        )
        if self.rope is not None:
            query, key = apply_rotary_pos_emb(query, key, *self.rope)
        if full_map:
            run, mask = sys.modules[type(attention).__module__].eager_attention_forward, self.mask
        else:
            run, mask = ALL_ATTENTION_FUNCTIONS["sdpa"], None
        mixed, weights = run(attention, query, key, value, mask, scaling=self.scaling)
        return Attended(x + self.out(mixed.flatten(2)), query, key, weights if full_map else None)

    def attention_map(self, seen: Attended) -> Tensor:
        """(B, H, N, N) of queries and keys, as eager attention makes it; the values count for nothing."""
        eager = sys.modules[type(self.attention).__module__].eager_attention_forward
        return eager(self.attention, seen.query, seen.key, seen.key, self.mask, scaling=self.scaling)[1]

    def mlp(self, x: Tensor) -> Tensor:
        """`x` with the MLP added."""
        return x + self.perceptron(self.norm2(x))


def tower_layer(config: PreTrainedConfig, device: torch.device, dtype: torch.dtype) -> Layer:
    """A SigLIP layer with random weights."""
    layer = SiglipEncoderLayer(config).to(device, dtype).eval()
    attention = layer.self_attn
    return Layer(layer.layer_norm1, attention, attention.out_proj, layer.layer_norm2, layer.mlp)


def decoder_layer(config: PreTrainedConfig, tokens: int, device: torch.device, dtype: torch.dtype) -> Layer:
    """A Qwen2 layer with random weights, for a prompt of `tokens`."""
    layer = Qwen2DecoderLayer(config, layer_idx=0).to(device, dtype).eval()
    attention = layer.self_attn
    positions = torch.arange(tokens, device=device)[None]
    like = torch.zeros(1, device=device, dtype=dtype)
    rope = Qwen2RotaryEmbedding(config).to(device)(like, positions)
    mask = torch.full((tokens, tokens), torch.finfo(dtype).min, device=device, dtype=dtype).triu(1)
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    return Layer(norms[0], attention, attention.o_proj, norms[1], layer.mlp, rope, mask[None, None])
