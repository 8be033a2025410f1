"""The Qwen families as `transformers` takes their media: patches with their grids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from illava_cli.bench.flops import Projector, TowerShape
from illava_cli.bench.stock.base import StockFamily
from illava_cli.models.families.qwen2_5_vl import seconds_per_grid
from illava_cli.models.media import Geometry, Pixels
from illava_cli.models.windows import window_cells

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


class StockQwen3VL(StockQwen2VL):
    """Qwen2-VL with DeepStack, whose mergers are as wide as the last."""

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision = self.vision_config
        taps = tuple(getattr(vision, "deepstack_visual_indexes", ()))
        inner = vision.intermediate_size
        tower = TowerShape(vision.hidden_size, inner, vision.depth, self.patch_values, taps=taps)
        joined = vision.hidden_size * self.family.patches_per_token
        return tower, ((joined, joined), (joined, vision.out_hidden_size))


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
