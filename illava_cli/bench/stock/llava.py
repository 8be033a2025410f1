"""The LLaVA families: a tower over tiles and an MLP projector."""

from __future__ import annotations

from illava_cli.bench.flops import Projector, TowerShape
from illava_cli.bench.stock.base import StockFamily


class StockLlava(StockFamily):
    """What they share."""

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision, width = self.vision_config, self.family.text_config.hidden_size
        values = vision.num_channels * vision.patch_size**2
        tower = TowerShape(
            vision.hidden_size,
            vision.intermediate_size,
            vision.num_hidden_layers,
            values,
            class_tokens=self.family.class_tokens,
        )
        return tower, ((vision.hidden_size, width), (width, width))
