"""The LLaVA families as `transformers` takes their media: a tower over tiles and an MLP projector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from illava_cli.bench.flops import Projector, TowerShape
from illava_cli.bench.stock.base import StockFamily
from illava_cli.errors import UsageError
from illava_cli.models.families.tiled import Tiles
from illava_cli.models.media import Pixels


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


def images_of(images: Sequence[Pixels]) -> dict[str, Tensor]:
    """Tiles (images, tiles, 3, S, S), fewer ones filled up, and the sizes of the whole images (images, 2)."""
    tiles = [pixels.pixel_values(0, pixels.segments) for pixels in images]
    return {
        "pixel_values": pad_sequence(tiles, batch_first=True),
        "image_sizes": torch.tensor([pixels.form.size for pixels in images]),
    }


class StockLlavaNext(StockLlava):
    """Images alone."""

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        # by this the model counts an image's tiles: one without area leaves the whole picture alone
        model.config.image_grid_pinpoints = getattr(media[0].form, "pinpoints", [[0, 0]])
        return images_of(media)

    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"])


class StockLlavaOnevision(StockLlava):
    """Images, tiled or not, and videos of one length."""

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        images = [pixels for pixels in media if pixels.kind == "image"]
        videos = [pixels for pixels in media if pixels.kind == "video"]
        inputs: dict[str, Tensor] = {}
        if images:
            inputs = images_of(images)
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
