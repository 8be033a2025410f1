"""What `flops` needs to know of a loaded model and of a request: widths, and tokens in each layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from illava_cli.bench.flops import DecoderShape, ModelShape, RequestCounts, TowerPass
from illava_cli.bench.stock import stock_family
from illava_cli.engine.record import Generation
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels
from illava_cli.reduction import Merge


def model_shape(family: Family) -> ModelShape:
    """The widths of a family's model."""
    tower, projector = stock_family(family).tower_shape()
    text = family.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    decoder = DecoderShape(
        width=text.hidden_size,
        query_width=head * text.num_attention_heads,
        key_width=head * text.num_key_value_heads,
        inner=text.intermediate_size,
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
    )
    return ModelShape(tower, projector, family.patches_per_token, decoder)


def unmerged_counts(
    family: Family, media: Sequence[Pixels], prompt_tokens: int, new_tokens: int
) -> RequestCounts:
    """The tokens of a request to the unmodified model, which runs every layer of its tower."""
    shape = model_shape(family)
    passes = [tower_pass(family, pixels, {}, shape.tower.layers) for pixels in media]
    return RequestCounts(tuple(passes), (prompt_tokens,) * shape.decoder.layers, new_tokens)


def tower_pass(family: Family, pixels: Pixels, merges: dict[int, Merge], depth: int) -> TowerPass:
    """A medium through `depth` layers of the tower, with these merges."""
    unit, side = family.patches_per_token, stock_family(family)
    place = torch.arange(pixels.tokens).expand(pixels.segments, -1)  # (B, N) of the tokens that are left
    layers, windowed = [], {}
    for layer in range(depth):
        attended = place.shape[1]
        if (windows := side.windows(pixels, layer)) is not None:
            windowed[layer] = pairs_within(windows[place]) * unit**2
        if layer in merges:
            place = place.gather(1, merges[layer].anchor.cpu())
        layers.append((attended * unit, place.shape[1] * unit))
    return TowerPass(pixels.segments, tuple(layers), windowed)


def pairs_within(windows: Tensor) -> int:
    """Pairs of tokens that stand in one window, itself included; `windows` (B, N) are those of each."""
    count = int(windows.max()) + 1
    sizes = torch.zeros(len(windows), count, dtype=torch.long)
    return int(sizes.scatter_add_(1, windows, torch.ones_like(windows)).square().sum())


def merged_counts(
    family: Family, media: Sequence[Pixels], answer: Generation, new_tokens: int
) -> RequestCounts:
    """The tokens of a request that was answered with `trace=True`, as they really were in each layer."""
    traced = zip(media, answer.trace["vision"], strict=True)
    passes = [tower_pass(family, pixels, merges, family.tower_layers) for pixels, merges in traced]
    merged = {layer: merge.anchor.shape[1] for layer, merge in answer.trace["llm"]}
    tokens, decoder = answer.usage.prompt_tokens, []
    for layer in range(family.text_config.num_hidden_layers):
        tokens = merged.get(layer, tokens)
        decoder.append(tokens)
    return RequestCounts(tuple(passes), tuple(decoder), new_tokens)
