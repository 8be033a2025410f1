"""Qwen3.5: Qwen3-VL's tower without taps, gated full attention, and a recurrence token by token.

The recurrence is compared in float64 (`doubled`), but for decays, which both take in float32.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus
from transformers.models.qwen3_5.modeling_qwen3_5 import apply_rotary_pos_emb

from tests.reference import qwen2_vl, qwen3_vl
from tests.reference.merging import attend
from tests.reference.values import Encoded, Medium, Schedule

positions, packs, TYPED = qwen2_vl.positions, False, True
stock_inputs = qwen3_vl.stock_inputs


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """As `qwen2_vl.encode`."""
    return qwen2_vl.encode(model, medium, schedule, places=qwen3_vl.places)


def decoder_layer(layer, x: Tensor, rotary: tuple[Tensor, Tensor]):
    """(T, C) through a layer; the map and the keys' mean of one with full attention."""
    normed = layer.input_layernorm(x)
    attention = keys = None
    if hasattr(layer, "self_attn"):
        mixed, attention, keys = full_attention(layer.self_attn, normed, rotary)
    else:
        mixed = gated_delta_rule(layer.linear_attn, normed)
    x = x + mixed
    return x + layer.mlp(layer.post_attention_layernorm(x)[None])[0], attention, keys


def full_attention(attn, x: Tensor, rotary: tuple[Tensor, Tensor]):
    """Each head's queries come with a gate on what they gather; part of a head is rotated."""
    both = attn.q_proj(x).unflatten(1, (-1, 2 * attn.head_dim))
    q, gate = both.split(attn.head_dim, dim=2)
    k, v = (project(x).unflatten(1, (-1, attn.head_dim)) for project in (attn.k_proj, attn.v_proj))
    q, k, v = (y.transpose(0, 1) for y in (attn.q_norm(q), attn.k_norm(k), v))  # (heads, T, D)
    q, k = (y[0] for y in apply_rotary_pos_emb(q[None], k[None], *rotary))
    keys = k.mean(0)
    k, v = (y.repeat_interleave(attn.num_key_value_groups, dim=0) for y in (k, v))
    out, attention = attend(q, k, v, attn.scaling, causal=True)
    return attn.o_proj(out * gate.flatten(1).sigmoid()), attention, keys


def gated_delta_rule(net, x: Tensor) -> Tensor:
    """S = S e^g; S = S + k (beta (v - S k)); what a token gets is S q. Queries and keys are of length 1."""
    width = net.conv_kernel_size
    mixed = torch.cat([x.new_zeros(width - 1, net.conv_dim), net.in_proj_qkv(x)])
    weight = net.conv1d.weight.squeeze(1)  # (channels, width)
    mixed = torch.stack([silu((mixed[t : t + width] * weight.T).sum(0)) for t in range(len(x))])
    q, k, v = mixed.split([net.key_dim, net.key_dim, net.value_dim], dim=1)
    q, k = (y.unflatten(1, (-1, net.head_k_dim)) for y in (q, k))
    q, k = (y / (y.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
    q, k = (y.repeat_interleave(net.num_v_heads // net.num_k_heads, dim=1) for y in (q, k))
    v = v.unflatten(1, (-1, net.head_v_dim))
    beta = net.in_proj_b(x).sigmoid()
    decay = -net.A_log.float().exp() * softplus(net.in_proj_a(x).float() + net.dt_bias)
    state, out = x.new_zeros(net.num_v_heads, net.head_k_dim, net.head_v_dim), []
    for t in range(len(x)):
        state = state * decay[t].exp()[:, None, None]
        known = torch.einsum("hkv,hk->hv", state, k[t])
        state = state + torch.einsum("hk,hv->hkv", k[t], (v[t] - known) * beta[t][:, None])
        out.append(torch.einsum("hkv,hk->hv", state, q[t]) / net.head_k_dim**0.5)
    gate = net.in_proj_z(x).unflatten(1, (-1, net.head_v_dim))
    normed = net.norm(torch.stack(out).flatten(0, 1), gate.flatten(0, 1))
    return net.out_proj(normed.view(len(x), -1))
