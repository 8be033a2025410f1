"""LLaVA-OneVision: a SigLIP tower over tiles or frames, an MLP projector, a Qwen2 decoder.

An image is tiled when it is the only one, or where each is to be, else it is one padded square. Frames of a
video are pooled 2x2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaOnevisionForConditionalGeneration

from illava_cli.config import MediaOptions
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.hf import LlavaOnevisionImageProcessorPil
from illava_cli.models.llava import Llava
from illava_cli.models.media import Pixels, normalised
from illava_cli.models.tiled import Frames, Tiles

TINY = 192  # hidden size of the embedded model, whose schedules are scaled to its six layers


class LlavaOnevision(Llava):
    """`transformers`' LlavaOnevisionForConditionalGeneration with merge points."""

    key = "llava_onevision"
    stock_class = LlavaOnevisionForConditionalGeneration
    image_processor_class = LlavaOnevisionImageProcessorPil
    special_tokens: ClassVar = {"image": "<image>", "video": "<video>"}
    markers: ClassVar = special_tokens
    frames_of_one_size = True

    def bind(self) -> None:
        aspect = self.model.config.vision_aspect_ratio
        if not re.fullmatch(r"anyres_max_\d+", aspect):
            raise ModelError(f"vision_aspect_ratio {aspect!r} is not supported")
        self.max_tiles = int(aspect.removeprefix("anyres_max_"))
        # LLaVA-Video ends each row of each frame with a newline, LLaVA-OneVision the whole video
        self.row_newlines = getattr(self.model.config, "mm_newline_position", "one_token") == "grid"
        super().bind()

    @property
    def placeholder_ids(self) -> dict[int, str]:
        config = self.model.config
        return {config.image_token_id: "image", config.video_token_id: "video"}

    @classmethod
    def schedule_key(cls, hidden_size: int) -> str:
        return f"{cls.key}_tiny" if hidden_size == TINY else cls.key

    @property
    def own_preset(self) -> str:
        return "auto" if self.text_config.hidden_size == TINY else "paper"

    # --- pixels -------------------------------------------------------------------------------

    def _pinpoints(self, options: MediaOptions, alone: bool) -> list[list[int]]:
        return super()._pinpoints(options, alone) if alone else []

    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        return self.tile.edge, self.tile.edge  # the video processor squashes a frame: no aspect kept, no crop

    def _frames(self, size: tuple[int, int], frames: int) -> Frames:
        return Frames(self.tile, size, frames, self.row_newlines)

    def preprocess_video(self, frames: list[np.ndarray]) -> Pixels:
        def pixel_values(start: int, stop: int) -> Tensor:
            values = torch.from_numpy(np.stack(frames[start:stop])).permute(0, 3, 1, 2)
            return normalised(values, self.video_settings, channel=1)

        return self.geometry("video", frames[0].shape[:2], len(frames)).filled(pixel_values)

    # --- the unmodified model -----------------------------------------------------------------

    def stock_inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
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
            if self.row_newlines:
                raise UsageError("transformers does not lay this model's videos out: measure images")
            if len({p.segments for p in videos}) > 1:
                raise UsageError("transformers stacks videos: give them the same number of frames")
            inputs["pixel_values_videos"] = torch.stack([p.pixel_values(0, p.segments) for p in videos])
        return inputs

    def stock_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        if "pixel_values" in inputs:
            names = ("pixel_values", "image_sizes", "batch_num_images")
            model.model.get_image_features(**{name: inputs[name] for name in names})
        if "pixel_values_videos" in inputs:
            model.model.get_video_features(inputs["pixel_values_videos"])
