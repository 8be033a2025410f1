"""Qwen2-VL as `transformers` takes its images and videos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from illava_cli.bench.flops import Projector, TowerShape
from illava_cli.bench.stock.base import StockFamily
from illava_cli.models.media import Pixels

# how the unmodified model calls a medium's patches and grid
STOCK_NAMES = {
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw"),
}


class StockQwen2VL(StockFamily):
    """Media as patches with their grids."""

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision = self.vision_config
        inner = int(vision.embed_dim * vision.mlp_ratio)
        tower = TowerShape(vision.embed_dim, inner, vision.depth, self.patch_values)
        joined = vision.embed_dim * self.family.patches_per_token
        return tower, ((joined, joined), (joined, vision.hidden_size))

    @property
    def patch_values(self) -> int:
        """Numbers in one patch of pixels."""
        return self.vision_config.in_channels * self.family.temporal * self.family.patch**2

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        for kind, (values, grid) in STOCK_NAMES.items():
            chosen = [pixels for pixels in media if pixels.kind == kind]
            if chosen:
                inputs[values] = torch.cat([p.pixel_values(0, p.segments) for p in chosen])
                inputs[grid] = torch.tensor([p.form.grid for p in chosen])
        return inputs

    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        for kind, (values, grid) in STOCK_NAMES.items():
            if values in inputs:
                getattr(model.model, f"get_{kind}_features")(inputs[values], inputs[grid])
