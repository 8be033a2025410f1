"""LLaVA-OneVision: a SigLIP tower over tiles or frames, an MLP projector, a Qwen2 decoder.

An image is tiled when it is the only one, or where each is to be, else it is one padded square. Frames of a
video are pooled 2x2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaOnevisionForConditionalGeneration

from illava_cli.config import MediaOptions
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.anyres import coarser, rescaled
from illava_cli.models.family import Pixels, normalised
from illava_cli.models.hf import LlavaOnevisionImageProcessorPil
from illava_cli.models.llava import Geometry, Layout, Llava
from illava_cli.models.schedule import Schedule
from illava_cli.models.shape import Expansion
from illava_cli.models.survivors import Survivors
from illava_cli.reduction import Merge
from illava_cli.reduction.nearest import nearest

TINY = 192  # hidden size of the embedded model, whose schedules are scaled to its six layers


class LlavaOnevision(Llava):
    """`transformers`' LlavaOnevisionForConditionalGeneration with merge points."""

    key = "llava_onevision"
    stock_class = LlavaOnevisionForConditionalGeneration
    image_processor_class = LlavaOnevisionImageProcessorPil
    special_tokens: ClassVar = {"image": "<image>", "video": "<video>"}
    markers: ClassVar = special_tokens
    frames_of_one_size = True
    forms: ClassVar = {**Llava.forms, "frames": ("_frames_grid", "_frames_faithful")}

    def prepare(self) -> None:
        aspect = self.model.config.vision_aspect_ratio
        if not re.fullmatch(r"anyres_max_\d+", aspect):
            raise ModelError(f"vision_aspect_ratio {aspect!r} is not supported")
        self.max_tiles = int(aspect.removeprefix("anyres_max_"))
        # LLaVA-Video ends each row of each frame with a newline, LLaVA-OneVision the whole video
        self.row_newlines = getattr(self.model.config, "mm_newline_position", "one_token") == "grid"
        super().prepare()

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
        return self.tile, self.tile  # the video processor squashes a frame: no aspect kept, no crop

    def prepare_video(self, frames: list[np.ndarray]) -> Pixels:
        def pixel_values(start: int, stop: int) -> Tensor:
            values = torch.from_numpy(np.stack(frames[start:stop])).permute(0, 3, 1, 2)
            return normalised(values, self.video_settings, channel=1)

        geometry = Geometry("frames", frames[0].shape[:2])
        shape = ("frame", 3, self.tile, self.tile)
        return Pixels("video", len(frames), self.side**2, shape, pixel_values, geometry)

    # --- frames -------------------------------------------------------------------------------

    def condense(self, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Survivors:
        """Frames are pooled at once: by the model's own rule, or the most attended survivors remain."""
        if pixels.geometry.form != "frames":
            return survivors
        if self._regrids(survivors.left, schedule):
            side = math.isqrt(survivors.left)
            cells = survivors.features.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (F, C, side, side)
            pooled = interpolate(cells, size=[math.ceil(side / 2)] * 2, mode="bilinear")
            features = pooled.flatten(2).transpose(1, 2)
            place = torch.arange(features.shape[1], device=features.device).expand(len(features), -1)
            joined = None
            if survivors.traced:
                one = coarser(side, side, *[math.ceil(side / 2)] * 2).to(features.device)
                joined = Merge.cat([one] * len(features))
            # the decoder's cells are no tokens of the tower: nothing rides along
            return replace(
                survivors, features=features, place=place, scores=None, padding=None, pooled=joined
            )
        pooled, m = math.ceil(self.side / 2), self._pooled(survivors.left)
        row, column = survivors.place // self.side, survivors.place % self.side
        merge = Merge.from_assignment(nearest(survivors.scores, row, column, m), m)
        kept = replace(survivors, scores=None, padding=None).after(merge)
        row, column = (
            rescaled(x, self.side, pooled) for x in (kept.place // self.side, kept.place % self.side)
        )
        cell, order = (row * pooled + column).sort(dim=1, stable=True)
        joined = merge.then(Merge.select(order, m)) if survivors.traced else None
        return replace(kept.take(order), place=cell, pooled=joined)

    def _frames_grid(self, geometry: Geometry, survivors: Survivors, side: int) -> Layout:
        frames, cells, _ = survivors.features.shape
        place = torch.arange(frames * cells, device=survivors.features.device).view(frames, cells)
        return self._frames(survivors, place, math.isqrt(cells))

    def _frames_faithful(self, geometry: Geometry, survivors: Survivors) -> Layout:
        pooled = math.ceil(self.side / 2)
        start = torch.arange(len(survivors.place), device=survivors.place.device)[:, None] * pooled**2
        return self._frames(survivors, survivors.place + start, pooled)

    def _frames(self, survivors: Survivors, place: Tensor, pooled: int) -> Layout:
        """Frames (F, n, C) at their places (F, n) among `pooled` x `pooled` cells each, with newlines."""
        frames, tokens, place = len(place), survivors.features.flatten(0, 1), place.flatten()
        joined = survivors.pooled and Merge.beside([survivors.pooled])
        if not self.row_newlines:
            return self._with_final_newline(tokens, place, frames * pooled**2 + 1, joined)
        return self._with_row_newlines(
            tokens, place // pooled, place % pooled, frames * pooled, pooled, joined
        )

    def expansion(self, pixels: Pixels, kept: int, schedule: Schedule) -> Expansion:
        if pixels.geometry.form != "frames":
            return super().expansion(pixels, kept, schedule)
        regrids = self._regrids(kept, schedule)
        rows = math.ceil((math.isqrt(kept) if regrids else self.side) / 2)
        cells = rows**2 if regrids else self._pooled(kept)
        return Expansion(pixels.segments * cells, pixels.segments * rows if self.row_newlines else 1)

    def _pooled(self, kept: int) -> int:
        """Cells of a pooled frame that stay where `kept` of its tokens do."""
        return max(1, round(math.ceil(self.side / 2) ** 2 * kept / self.side**2))

    # --- the unmodified model -----------------------------------------------------------------

    def stock_inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        images = [pixels for pixels in media if pixels.kind == "image"]
        videos = [pixels for pixels in media if pixels.kind == "video"]
        inputs: dict[str, Tensor] = {}
        if images:
            # images of fewer tiles are padded
            tiles = [p.pixel_values(0, p.segments) for p in images]
            inputs["pixel_values"] = pad_sequence(tiles, batch_first=True)
            inputs["image_sizes"] = torch.tensor([p.geometry.size for p in images])
            if images[0].geometry.form == "tiles":
                model.config.image_grid_pinpoints = images[0].geometry.pinpoints
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
