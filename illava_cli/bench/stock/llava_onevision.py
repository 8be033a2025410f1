"""LLaVA-OneVision as `transformers` takes its images and videos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from illava_cli.bench.stock.llava import StockLlava
from illava_cli.errors import UsageError
from illava_cli.models.media import Pixels
from illava_cli.models.tiled import Tiles


class StockLlavaOnevision(StockLlava):
    """Images, tiled or not, and videos of one length."""

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        images = [pixels for pixels in media if pixels.kind == "image"]
        videos = [pixels for pixels in media if pixels.kind == "video"]
        inputs: dict[str, Tensor] = {}
        if images:
            # images of fewer tiles are padded
            tiles = [p.pixel_values(0, p.segments) for p in images]
            inputs["pixel_values"] = pad_sequence(tiles, batch_first=True)
            inputs["image_sizes"] = torch.tensor([p.form.size for p in images])
            if isinstance(images[0].form, Tiles):
                model.config.image_grid_pinpoints = images[0].form.pinpoints
                inputs["batch_num_images"] = torch.ones(len(images), dtype=torch.long)
            else:
                # an image is one tile where it has a companion; the first of two images is such a one
                inputs["batch_num_images"] = torch.tensor([max(2, len(images))])
        if videos:
            if self.family.row_newlines:
                raise UsageError("transformers does not lay this model's videos out: measure images")
            if len({p.segments for p in videos}) > 1:
                raise UsageError("transformers stacks videos: give them the same number of frames")
            inputs["pixel_values_videos"] = torch.stack([p.pixel_values(0, p.segments) for p in videos])
        return inputs

    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        if "pixel_values" in inputs:
            names = ("pixel_values", "image_sizes", "batch_num_images")
            model.model.get_image_features(**{name: inputs[name] for name in names})
        if "pixel_values_videos" in inputs:
            model.model.get_video_features(inputs["pixel_values_videos"])
