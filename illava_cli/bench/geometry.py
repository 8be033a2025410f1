"""What `flops` needs to know of a loaded model and of a request: widths, and tokens in each layer."""

from __future__ import annotations

from collections.abc import Sequence

from illava_cli.bench.flops import DecoderShape, ModelShape, RequestCounts, TowerPass, TowerShape
from illava_cli.engine.record import Generation
from illava_cli.errors import UsageError
from illava_cli.models.family import Family, Pixels
from illava_cli.models.llava import TOWERS


def _llava(config) -> tuple[TowerShape, tuple[tuple[int, int], ...]]:
    vision, width = config.vision_config, config.text_config.hidden_size
    values = vision.num_channels * vision.patch_size**2
    layers, class_tokens = vision.num_hidden_layers, TOWERS[vision.model_type].class_tokens
    tower = TowerShape(vision.hidden_size, vision.intermediate_size, layers, values, class_tokens)
    return tower, ((vision.hidden_size, width), (width, width))


def _qwen2_vl(config) -> tuple[TowerShape, tuple[tuple[int, int], ...]]:
    vision = config.vision_config
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    tower = TowerShape(vision.embed_dim, int(vision.embed_dim * vision.mlp_ratio), vision.depth, values)
    joined = vision.embed_dim * vision.spatial_merge_size**2
    return tower, ((joined, joined), (joined, vision.hidden_size))


SHAPES = {"llava_next": _llava, "llava_onevision": _llava, "qwen2_vl": _qwen2_vl}


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
    shape: ModelShape, media: Sequence[Pixels], prompt_tokens: int, new_tokens: int
) -> RequestCounts:
    """The tokens of a request to the unmodified model, which runs every layer of its tower."""
    passes = []
    for pixels in media:
        patches = pixels.tokens * shape.patches_per_token
        passes.append(TowerPass(pixels.segments, ((patches, patches),) * shape.tower.layers))
    return RequestCounts(tuple(passes), (prompt_tokens,) * shape.decoder.layers, new_tokens)


def merged_counts(
    family: Family, media: Sequence[Pixels], answer: Generation, new_tokens: int
) -> RequestCounts:
    """The tokens of a request that was answered with `trace=True`, as they really were in each layer."""
    passes = []
    for pixels, merges in zip(media, answer.trace["vision"], strict=True):
        layers, tokens = [], pixels.tokens
        for layer in range(family.tower_layers):
            kept = merges[layer].anchor.shape[1] if layer in merges else tokens
            layers.append((tokens * family.patches_per_token, kept * family.patches_per_token))
            tokens = kept
        passes.append(TowerPass(pixels.segments, tuple(layers)))
    merged = {layer: merge.anchor.shape[1] for layer, merge in answer.trace["llm"]}
    tokens, decoder = answer.usage.prompt_tokens, []
    for layer in range(family.text_config.num_hidden_layers):
        tokens = merged.get(layer, tokens)
        decoder.append(tokens)
    return RequestCounts(tuple(passes), tuple(decoder), new_tokens)
