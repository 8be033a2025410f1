"""InternVL as `transformers` takes its media: the tiles and frames of all media one after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from illava_cli.bench.flops import Projector, TowerShape
from illava_cli.bench.stock.base import StockFamily
from illava_cli.models.media import Pixels


class StockInternVL(StockFamily):
    """Tiles and frames in one tensor."""

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision, text = self.vision_config, self.family.text_config.hidden_size
        values = vision.num_channels * vision.patch_size[0] * vision.patch_size[1]
        tower = TowerShape(
            vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, values, class_tokens=1
        )
        return tower, ((vision.hidden_size * self.family.patches_per_token, text), (text, text))

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        return {"pixel_values": torch.cat([p.pixel_values(0, p.segments) for p in media])} if media else {}

    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        if "pixel_values" in inputs:
            model.model.get_image_features(inputs["pixel_values"])
