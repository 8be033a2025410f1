"""LLaVA-NeXT's tower is a splice of stock layers."""

import torch

from tests.reference import Counts, Schedule, llava_next
from tests.reference.prompts import anyres
from tests.reference.splices import merge_with_tensors
from tests.tolerances import EAGER


@torch.no_grad()
def test_clip_s_class_token_attends_and_stays(eager_next, monkeypatch):
    """6x6 -> 32 -> 5x5 a tile beside the class token, all layers but the last, and HF's own packing."""
    model, config, schedule = eager_next, eager_next.config, {2: 4, 4: 7}
    medium, tower = anyres((100, 168), 4, pinpoints=[[168, 168]]), eager_next.model.vision_tower
    features = []
    for tile in medium.pixel_values:
        x = tower.pre_layrnorm(tower.embeddings(tile[None]))
        for index, layer in enumerate(tower.encoder.layers[:-1]):
            out, attention = layer.self_attn(layer.layer_norm1(x), None)
            x = x + out
            if index in schedule:
                n = x.shape[1]
                scores = (attention[0].mean(0) * (1 - torch.eye(n))).sum(0) / (n - 1)
                merged, _ = merge_with_tensors(x[0, 1:], scores[1:], schedule[index])
                x = torch.cat([x[0, :1], merged])[None]
            x = x + layer.mlp(layer.layer_norm2(x))
        features.append(model.model.multi_modal_projector(x[:, 1:])[0])
    with monkeypatch.context() as patch:
        patch.setattr(config.vision_config, "image_size", 5 * 14)
        patch.setattr(config, "image_grid_pinpoints", [[2 * 70, 2 * 70]])
        [expected], _ = model.model.pack_image_features(
            [torch.stack(features)], [medium.size], "default", model.model.image_newline
        )
    encoded = llava_next.encode(model, medium, Schedule(vision=schedule))
    assert encoded.counts == Counts(5 * 36, 5 * 25)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), expected, **EAGER)
