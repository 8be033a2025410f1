"""What `flops` needs to know of a loaded model and of a request: widths, and tokens in each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from illava_cli.bench.flops import DecoderShape, LinearShape, ModelShape, RequestCounts, TowerPass
from illava_cli.bench.stock import stock_family
from illava_cli.engine.record import Generation
from illava_cli.engine.session import Session
from illava_cli.models.family import Family
from illava_cli.models.layers import attends
from illava_cli.models.media import Geometry
from illava_cli.models.schedule import Schedule
from illava_cli.reduction import Merge

NOTHING: Mapping[int, Merge] = MappingProxyType({})


def model_shape(family: Family) -> ModelShape:
    """The widths of a family's model."""
    tower, projector = stock_family(family).tower_shape()
    return ModelShape(tower, projector, family.patches_per_token, decoder_shape(family))


def decoder_shape(family: Family) -> DecoderShape:
    """The widths of its decoder."""
    text = family.text_config
    attention = next(layer for layer in family.text_model.layers if attends(layer)).self_attn
    shape = DecoderShape(
        width=text.hidden_size,
        query_width=attention.o_proj.in_features,
        key_width=attention.k_proj.out_features,
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        gated=attention.q_proj.out_features > attention.o_proj.in_features,
        linear=linear_shape(family),
        linear_layers=family.layers.linear,
        **perceptron_shape(text),
    )
    tail = family.layers.tail
    return replace(
        shape, tail=tail if tail < shape.layers else None, apart=stock_family(family).layers_apart(shape)
    )


def perceptron_shape(text: PreTrainedConfig) -> dict[str, int]:
    """The width of the MLP, or of the experts that work for a token, and how many these are chosen from."""
    if not getattr(text, "num_experts_per_tok", None):
        return {"inner": text.intermediate_size}
    shared = getattr(text, "shared_expert_intermediate_size", 0)
    own = text.num_experts_per_tok * text.moe_intermediate_size
    return {"inner": own + shared, "router": text.num_experts + bool(shared)}


def linear_shape(family: Family) -> LinearShape | None:
    """The heads of its layers of linear attention, where it has any."""
    if not family.layers.linear:
        return None
    text = family.text_config
    return LinearShape(
        key_heads=text.linear_num_key_heads,
        value_heads=text.linear_num_value_heads,
        key_dim=text.linear_key_head_dim,
        value_dim=text.linear_value_head_dim,
        kernel=text.linear_conv_kernel_dim,
    )


def unmerged_counts(
    family: Family, media: Sequence[Geometry], prompt_tokens: int, new_tokens: int
) -> RequestCounts:
    """The tokens of a request to the unmodified model, which runs every layer of its tower."""
    shape = model_shape(family)
    passes = [tower_pass(family, medium, Schedule(), shape.tower.layers) for medium in media]
    return RequestCounts(tuple(passes), (prompt_tokens,) * shape.decoder.layers, new_tokens)


def tower_pass(
    family: Family, medium: Geometry, schedule: Schedule, depth: int, merges: Mapping[int, Merge] = NOTHING
) -> TowerPass:
    """A medium through `depth` layers of the tower.

    Args:
        merges: as they were traced: how many of a window's tokens have left is not known beforehand.
    """
    unit, side = family.patches_per_token, stock_family(family)
    budget, left = schedule.in_tower(medium.tokens, depth).budget, medium.tokens
    place = torch.arange(left).expand(medium.segments, -1)  # (B, N) of the tokens that are left
    layers, windowed = [], {}
    for layer in range(depth):
        attended, left = left, left - budget.get(layer, 0)
        if (windows := side.windows(medium, layer)) is not None:
            windowed[layer] = pairs_within(windows[place]) * unit**2
        if layer in merges:
            place = place.gather(1, merges[layer].anchor.cpu())
        layers.append((attended * unit, left * unit))
    return TowerPass(medium.segments, tuple(layers), windowed)


def pairs_within(windows: Tensor) -> int:
    """Pairs of tokens that stand in one window, itself included; `windows` (B, N) are those of each."""
    count = int(windows.max()) + 1
    sizes = torch.zeros(len(windows), count, dtype=torch.long)
    return int(sizes.scatter_add_(1, windows, torch.ones_like(windows)).square().sum())


def merged_counts(
    session: Session, media: Sequence[Geometry], answer: Generation, new_tokens: int
) -> RequestCounts:
    """The tokens of a request, from the sizes of its media.

    Args:
        answer: to the request, with `trace=True`, for what cannot be known beforehand: how many tokens the
            text has, where a tower's windows thin out, and how many a method keeps that finds its own number.
    """
    family, depth = session.family, session.family.tower_layers
    passes, expansions = [], []
    for medium, merges in zip(media, answer.trace["vision"], strict=True):
        few = medium.segments * medium.tokens < session.min_visual_tokens
        schedule = Schedule() if few else session.schedules[medium.kind]
        passes.append(tower_pass(family, medium, schedule, depth, merges))
        expansion = family.tokens(medium, schedule)
        if expansion is None:
            expansion = medium.form.expansion(merges[depth].anchor.shape[1], schedule.layout)
        candidates = 0 if few else medium.form.candidates(expansion, schedule.authors)
        expansions.append((expansion.total, candidates))
    leading = session.schedules["image" if any(m.kind == "image" for m in media) else "video"]
    text = answer.usage.prompt_tokens - sum(tokens for tokens, _ in expansions)
    decoder = leading.decoder_tokens(text, expansions, family.text_config.num_hidden_layers)
    return RequestCounts(tuple(passes), tuple(decoder), new_tokens)
