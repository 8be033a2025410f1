"""Qwen2.5-VL as `transformers` takes its images and videos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from illava_cli.bench.flops import Projector, TowerShape
from illava_cli.bench.stock.qwen2_vl import StockQwen2VL
from illava_cli.models.media import Geometry, Pixels
from illava_cli.models.qwen2_5_vl import seconds_per_grid
from illava_cli.models.windows import window_cells


class StockQwen2_5VL(StockQwen2VL):
    """Qwen2-VL with a gated MLP, with windows and with time."""

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision = self.vision_config
        inner = vision.intermediate_size
        tower = TowerShape(vision.hidden_size, inner, vision.depth, self.patch_values, gated=True)
        joined = vision.hidden_size * self.family.patches_per_token
        return tower, ((joined, joined), (joined, vision.out_hidden_size))

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        inputs = super().inputs(model, media)
        intervals = [
            seconds_per_grid(pixels, self.family.temporal) for pixels in media if pixels.kind == "video"
        ]
        if intervals:
            inputs["second_per_grid_ts"] = torch.tensor(intervals)
        return inputs

    def windows(self, geometry: Geometry, layer: int) -> Tensor | None:
        if layer in self.family.full_attention:
            return None
        return window_cells(geometry.form.groups, self.family.window) // self.family.window**2
