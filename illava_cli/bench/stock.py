"""The unmodified `transformers` model on our weights: same tensors, a stock instance, nothing bound to it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from illava_cli.engine import prompt as prompts
from illava_cli.engine.prompt import Slot
from illava_cli.errors import UsageError
from illava_cli.models.anyres import tile_grid
from illava_cli.models.family import Family, Pixels
from illava_cli.models.qwen2_5_vl import seconds_per_grid


def stock_model(family: Family) -> nn.Module:
    """A new instance of the model's class that shares every weight with `family.model`.

    Raises:
        UsageError: the weights are quantized or spread over devices.
    """
    ours = family.model
    if hasattr(ours, "hf_device_map") or getattr(ours, "hf_quantizer", None) is not None:
        raise UsageError("illava bench measures whole models: leave --quantization and --device-map out")
    config = copy.deepcopy(ours.config)
    config._attn_implementation = ours.config.text_config._attn_implementation
    with torch.device("meta"):
        model = type(ours)._from_config(config, dtype=ours.dtype)
    model.load_state_dict(ours.state_dict(), assign=True)
    for name, buffer in ours.named_buffers():  # those that a state dict leaves out
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)
    model.generation_config = copy.deepcopy(ours.generation_config)
    return model.requires_grad_(False).eval()


@dataclass(frozen=True)
class Expansion:
    """Decoder tokens of a medium in the unmodified model."""

    visual: int
    newlines: int

    @property
    def total(self) -> int:
        return self.visual + self.newlines


class LlavaNextInputs:
    """How a LLaVA-NeXT takes pixels."""

    @staticmethod
    def expansion(family: Family, pixels: Pixels) -> Expansion:
        """Decoder tokens that stand for `pixels`."""
        geometry, side = pixels.geometry, family.side
        if geometry.form == "square":
            return Expansion(side**2, 1)
        if geometry.form == "frames":
            return Expansion(pixels.segments * math.ceil(side / 2) ** 2, 1)
        grid = tile_grid(geometry.size, geometry.pinpoints, family.tile, side, family.max_tiles)
        return Expansion(side**2 + grid.tokens - grid.out_height, grid.out_height)

    @staticmethod
    def tensors(model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        """`pixel_values` and what goes with them, of all rows together."""
        # by this the model counts an image's tiles: one without area leaves the whole picture alone
        model.config.image_grid_pinpoints = media[0].geometry.pinpoints or [[0, 0]]
        return {
            # images of fewer tiles are padded
            "pixel_values": pad_sequence([p.pixel_values(0, p.segments) for p in media], batch_first=True),
            "image_sizes": torch.tensor([p.geometry.size for p in media]),
        }

    @staticmethod
    def vision(model: nn.Module, inputs: dict[str, Tensor]) -> None:
        """Tower, projector and packing alone."""
        model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"])


class LlavaOnevisionInputs(LlavaNextInputs):
    """How a LLaVA-OneVision takes pixels."""

    @staticmethod
    def tensors(model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        """`pixel_values` and what goes with them, of all rows together."""
        images = [pixels for pixels in media if pixels.kind == "image"]
        videos = [pixels for pixels in media if pixels.kind == "video"]
        inputs: dict[str, Tensor] = {}
        if images:
            inputs["pixel_values"] = torch.stack([p.pixel_values(0, p.segments) for p in images])
            inputs["image_sizes"] = torch.tensor([p.geometry.size for p in images])
            if images[0].geometry.form == "tiles":
                model.config.image_grid_pinpoints = images[0].geometry.pinpoints
                inputs["batch_num_images"] = torch.ones(len(images), dtype=torch.long)
            else:
                # an image is one tile where it has a companion; the first of two images is such a one
                inputs["batch_num_images"] = torch.tensor([max(2, len(images))])
        if videos:
            if getattr(model.config, "mm_newline_position", "one_token") != "one_token":
                raise UsageError("transformers does not lay this model's videos out: measure images")
            if len({p.segments for p in videos}) > 1:
                raise UsageError("transformers stacks videos: give them the same number of frames")
            inputs["pixel_values_videos"] = torch.stack([p.pixel_values(0, p.segments) for p in videos])
        return inputs

    @staticmethod
    def vision(model: nn.Module, inputs: dict[str, Tensor]) -> None:
        """Tower, projector and packing alone."""
        if "pixel_values" in inputs:
            names = ("pixel_values", "image_sizes", "batch_num_images")
            model.model.get_image_features(**{name: inputs[name] for name in names})
        if "pixel_values_videos" in inputs:
            model.model.get_video_features(inputs["pixel_values_videos"])


class Qwen2VLInputs:
    """How a Qwen2-VL takes pixels."""

    NAMES: ClassVar = {
        "image": ("pixel_values", "image_grid_thw"),
        "video": ("pixel_values_videos", "video_grid_thw"),
    }

    @staticmethod
    def expansion(family: Family, pixels: Pixels) -> Expansion:
        """Decoder tokens that stand for `pixels`."""
        return Expansion(pixels.segments * pixels.tokens, 0)

    @classmethod
    def tensors(cls, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        """Patches and grids of all rows together."""
        inputs: dict[str, Tensor] = {}
        for kind, (values, grid) in cls.NAMES.items():
            chosen = [pixels for pixels in media if pixels.kind == kind]
            if chosen:
                inputs[values] = torch.cat([p.pixel_values(0, p.segments) for p in chosen])
                inputs[grid] = torch.tensor([p.geometry for p in chosen])
        return inputs

    @classmethod
    def vision(cls, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        """Tower and patch merger alone."""
        for kind, (values, grid) in cls.NAMES.items():
            if values in inputs:
                getattr(model.model, f"get_{kind}_features")(inputs[values], inputs[grid])


class Qwen2_5VLInputs(Qwen2VLInputs):
    """Qwen2.5-VL also takes the seconds of a video's steps."""

    @classmethod
    def tensors(cls, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        """Patches, grids and times of all rows together."""
        inputs = super().tensors(model, media)
        step = model.config.vision_config.temporal_patch_size
        intervals = [seconds_per_grid(pixels, step) for pixels in media if pixels.kind == "video"]
        if intervals:
            inputs["second_per_grid_ts"] = torch.tensor(intervals)
        return inputs


INPUTS = {
    "llava_next": LlavaNextInputs,
    "llava_onevision": LlavaOnevisionInputs,
    "qwen2_vl": Qwen2VLInputs,
    "qwen2_5_vl": Qwen2_5VLInputs,
}


def prompt_ids(family: Family, text: str, images: int, videos: int, media: Sequence[Pixels]) -> list[int]:
    """Token ids of a question about `media` (images first), each placeholder repeated for its tokens."""
    user = prompts.user_message(family, text, images, videos)
    placeholder = {kind: token for token, kind in family.placeholder_ids.items()}
    ids: list[int] = []
    for piece in prompts.first_turn(family, user, None, images, videos):
        if isinstance(piece, Slot):
            pixels = media[piece.index + (images if piece.kind == "video" else 0)]
            count = INPUTS[family.key].expansion(family, pixels).total
            ids += [placeholder[piece.kind]] * count
        else:
            ids += piece
    return ids


def model_inputs(
    family: Family, model: nn.Module, rows: Sequence[Sequence[Pixels]], ids: Sequence[list[int]]
) -> dict[str, Tensor]:
    """Everything that `generate` takes, on the device; rows of equal length need no padding."""
    media = [pixels for row in rows for pixels in row]
    inputs = INPUTS[family.key].tensors(model, media)
    inputs["input_ids"] = torch.tensor(ids)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if family.rope_axes > 1:
        kinds = {"image": 1, "video": 2}
        types = torch.zeros_like(inputs["input_ids"], dtype=torch.int32)
        for token, kind in family.placeholder_ids.items():
            types[inputs["input_ids"] == token] = kinds[kind]
        inputs["mm_token_type_ids"] = types
    return on_device(family, model, inputs)


def on_device(family: Family, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """`inputs` on the model's device, pixels in its dtype."""
    return {
        name: value.to(family.device, model.dtype if name.startswith("pixel_values") else None)
        for name, value in inputs.items()
    }
