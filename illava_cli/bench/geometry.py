"""What `flops` needs to know of a loaded model and of a request: widths, and tokens in each layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from illava_cli.bench.flops import DecoderShape, ModelShape, RequestCounts, TowerPass, TowerShape
from illava_cli.engine.record import Generation
from illava_cli.errors import UsageError
from illava_cli.models.family import Family, Pixels
from illava_cli.models.llava import TOWERS
from illava_cli.reduction import Merge


def _llava(config) -> tuple[TowerShape, tuple[tuple[int, int], ...]]:
    vision, width = config.vision_config, config.text_config.hidden_size
    values = vision.num_channels * vision.patch_size**2
    layers, class_tokens = vision.num_hidden_layers, TOWERS[vision.model_type].class_tokens
    tower = TowerShape(
        vision.hidden_size, vision.intermediate_size, layers, values, class_tokens=class_tokens
    )
    return tower, ((vision.hidden_size, width), (width, width))


def _qwen2_vl(config) -> tuple[TowerShape, tuple[tuple[int, int], ...]]:
    vision = config.vision_config
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    tower = TowerShape(vision.embed_dim, int(vision.embed_dim * vision.mlp_ratio), vision.depth, values)
    joined = vision.embed_dim * vision.spatial_merge_size**2
    return tower, ((joined, joined), (joined, vision.hidden_size))


def _qwen2_5_vl(config) -> tuple[TowerShape, tuple[tuple[int, int], ...]]:
    vision = config.vision_config
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    tower = TowerShape(vision.hidden_size, vision.intermediate_size, vision.depth, values, gated=True)
    joined = vision.hidden_size * vision.spatial_merge_size**2
    return tower, ((joined, joined), (joined, vision.out_hidden_size))


SHAPES = {
    "llava_next": _llava,
    "llava_onevision": _llava,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
}


def model_shape(family: Family) -> ModelShape:
    """The widths of a family's model.

    Raises:
        UsageError: a family whose operations are not counted.
    """
    if family.key not in SHAPES:
        raise UsageError(f"illava bench does not know {family.key} models (it knows: {', '.join(SHAPES)})")
    tower, projector = SHAPES[family.key](family.model.config)
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
    unit = family.patches_per_token
    place = torch.arange(pixels.tokens).expand(pixels.segments, -1)  # (B, N) of the tokens that are left
    layers, windowed = [], {}
    for layer in range(depth):
        attended = place.shape[1]
        if (windows := family.windows(pixels, layer)) is not None:
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
