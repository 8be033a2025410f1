"""LLaVA-NeXT as `transformers` takes its images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from illava_cli.bench.stock.llava import StockLlava
from illava_cli.models.media import Pixels


class StockLlavaNext(StockLlava):
    """Images alone."""

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        # by this the model counts an image's tiles: one without area leaves the whole picture alone
        model.config.image_grid_pinpoints = getattr(media[0].form, "pinpoints", [[0, 0]])
        return {
            # images of fewer tiles are padded
            "pixel_values": pad_sequence([p.pixel_values(0, p.segments) for p in media], batch_first=True),
            "image_sizes": torch.tensor([p.form.size for p in media]),
        }

    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"])
