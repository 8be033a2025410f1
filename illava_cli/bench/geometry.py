"""What `flops` needs to know of a loaded model and of a request: widths, and tokens in each layer."""

from __future__ import annotations

from collections import Counter
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
from illava_cli.models.forms import Expansion
from illava_cli.models.layers import attends
from illava_cli.models.media import Geometry, Pixels
from illava_cli.models.schedule import Schedule, windows
from illava_cli.reduction import Merge
from illava_cli.trace import NEWLINE, TOWER, Step

NOTHING: Mapping[Step, Merge] = MappingProxyType({})


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
    depth = shape.tower.layers
    passes = [one for medium in media for one in tower_passes(family, medium, Schedule(), depth)]
    return RequestCounts(tuple(passes), (prompt_tokens,) * shape.decoder.layers, new_tokens)


def tower_passes(
    family: Family, medium: Geometry, schedule: Schedule, depth: int, merges: Mapping[Step, Merge] = NOTHING
) -> list[TowerPass]:
    """A medium through `depth` layers of the tower.

    Args:
        merges: as they were traced: how many of a window's tokens have left is not known beforehand.
    """
    unit, passes = family.patches_per_token, []
    for tokens, segments in sorted(Counter(filter(None, medium.entering)).items()):
        budget, left, layers = schedule.budget(tokens, medium.tokens), tokens, []
        for layer in range(depth):
            attended, left = left, left - budget.get(layer, 0)
            layers.append((attended * unit, left * unit))
        frames = frames_left(schedule, segments) if medium.kind == "video" else {}
        passes.append(TowerPass(segments, tuple(layers), left=frames))
    windowed = windowed_pairs(family, medium, schedule, depth, merges)
    nothing = dict.fromkeys(windowed, 0)
    return [replace(one, windowed=nothing if n else windowed) for n, one in enumerate(passes)]


def frames_left(schedule: Schedule, frames: int) -> dict[int, int]:
    """Of so many frames of a clip, those that are left from a layer on."""
    found: Counter[int] = Counter()
    for window in windows(frames) if schedule.frames else ():
        found.update(schedule.frames.of(window))
    return dict(found)


def windowed_pairs(
    family: Family, medium: Geometry, schedule: Schedule, depth: int, merges: Mapping[Step, Merge]
) -> dict[int, int]:
    """By layer that attends within windows, pairs of patches that see each other, of all segments."""
    side, unit = stock_family(family), family.patches_per_token
    place = torch.arange(medium.segments * medium.tokens)  # of the tokens that are left
    steps, found = sorted(merges.items()), {}
    for layer in range(depth):
        while steps and steps[0][0] < (layer, TOWER):
            place = place[steps.pop(0)[1].anchor[0].cpu()]
        if (windows := side.windows(medium, layer)) is not None:
            of_segment = place // medium.tokens * (int(windows.max()) + 1)
            found[layer] = pairs_within(of_segment + windows[place % medium.tokens]) * unit**2
    return found


def pairs_within(windows: Tensor) -> int:
    """Pairs of tokens that stand in one window, itself included; `windows` (M,) are those of each."""
    return int(windows.bincount().square().sum())


def merged_counts(
    session: Session, media: Sequence[Pixels], answer: Generation, new_tokens: int
) -> RequestCounts:
    """The tokens of a request, from the sizes of its media.

    Args:
        media: as the session prepares them.
        answer: to the request, with `trace=True`, for what cannot be known beforehand: how many tokens the
            text has, where a tower's windows thin out, and how many a method keeps that finds its own number.
    """
    family, depth = session.family, session.family.tower_layers
    passes, expansions = [], []
    traced = zip(media, answer.trace["vision"], answer.trace["where"], strict=True)
    for medium, merges, where in traced:
        schedule = session.rules.schedule(medium)
        passes += tower_passes(family, medium, schedule, depth, merges)
        expansion = family.tokens(medium, schedule)
        if expansion is None:
            newlines = int((answer.trace["kinds"][0, where] == NEWLINE).sum())
            expansion = Expansion(len(where) - newlines, newlines)
        fixed = session.rules.fixed(medium)
        candidates = 0 if fixed else medium.form.candidates(expansion, schedule.authors)
        expansions.append((expansion.total, candidates))
    leading = session.schedules["image" if any(m.kind == "image" for m in media) else "video"]
    text = answer.usage.prompt_tokens - sum(tokens for tokens, _ in expansions)
    decoder = leading.decoder_tokens(text, expansions, family.text_config.num_hidden_layers)
    return RequestCounts(tuple(passes), tuple(decoder), new_tokens)
