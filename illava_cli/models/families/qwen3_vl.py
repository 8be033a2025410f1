"""Qwen3-VL: Qwen2-VL's packed frames and 2x2 groups, with DeepStack, and frames behind the time they show.

DeepStack (arXiv 2406.04334): what some layers of the tower give goes through mergers of their own, and is
added after the decoder's first layers at the visual positions. All of these need the same survivors. So the
features of an earlier layer ride along with the tokens, and every later merge, in the tower, after it or in
the decoder, reduces them too.

Learned positions are interpolated to the grid of a frame and added once. Each pair of frames is an attention
segment, and stands behind `<1.5 seconds>` in a prompt, where text goes on after its unmerged grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLMoeForConditionalGeneration

from illava_cli.config.options import MediaOptions
from illava_cli.models.families.qwen2_vl import Qwen2VL
from illava_cli.models.hf import get_vision_interpolation_indices_and_weights, video_smart_resize
from illava_cli.models.host import to_device
from illava_cli.models.media import Features, Pixels
from illava_cli.models.tower_pass import TowerPass

RATE = 24.0  # frames a second of pictures that have no times, as in `transformers`


class Qwen3VL(Qwen2VL):
    """`transformers`' Qwen3VLForConditionalGeneration with merge points."""

    key = "qwen3_vl"
    stock_class = Qwen3VLForConditionalGeneration
    frames_apart = True

    @classmethod
    def tokenizer_folder(cls) -> str:
        return "qwen3-vl"

    def bind(self) -> None:
        self.taps = tuple(getattr(self.model.config.vision_config, "deepstack_visual_indexes", ()))
        super().bind()

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 2 * config.intermediate_size
        return width * self.patches_per_token * self.model.dtype.itemsize

    # --- pixels -------------------------------------------------------------------------------

    def frame_size(
        self, size: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> tuple[int, int]:
        """The checkpoint bounds the pixels of all frames together, `options` those of each."""
        self._refuse_narrow("a video", *size)
        limits = self._limits(options, self.video_settings["size"], frames)
        return video_smart_resize(
            max(frames, self.temporal),
            *size,
            temporal_factor=self.temporal,
            factor=self.patch * self.merge_size,
            min_pixels=limits["shortest_edge"],
            max_pixels=limits["longest_edge"],
        )

    def preprocess_video(self, frames: Sequence[np.ndarray]) -> Pixels:
        times = tuple(index / RATE for index in range(len(frames)))
        return replace(super().preprocess_video(frames), times=times)

    def marker(self, kind: str, medium: Pixels | Features) -> str:
        """A video stands within the template's marks, as the processor of `transformers` has it."""
        if kind == "image":
            return super().marker(kind, medium)
        times = step_times(medium.times, self.temporal)
        steps = "".join(f"<{times[step]:.1f} seconds>{self.markers[kind]}" for step in medium.shown)
        return f"{self.special_tokens['vision_start']}{steps}{self.special_tokens['vision_end']}"

    # --- tower --------------------------------------------------------------------------------

    def frame_arguments(self, pixels: Pixels, run: TowerPass) -> dict[str, Tensor]:
        tower = self.model.model.visual
        indices, weights = get_vision_interpolation_indices_and_weights(
            self.frame_grid(pixels),
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=self.merge_size,
        )
        places = {"indices": to_device(indices, run.device), "weights": to_device(weights, run.device)}
        return super().frame_arguments(pixels, run) | places

    def embedded(
        self, tower: nn.Module, patches: Tensor, run: TowerPass, *, indices: Tensor, weights: Tensor, **places
    ) -> Tensor:
        hidden_states = super().embedded(tower, patches, run, **places)
        positions = (tower.pos_embed(indices) * weights[:, :, None]).sum(1)  # (patches of a frame, C)
        return hidden_states + positions.to(hidden_states.dtype).repeat(run.segments, 1)

    def tap(self, tower: nn.Module, layer: int, hidden_states: Tensor, run: TowerPass) -> None:
        if layer not in self.taps:
            return
        number = self.taps.index(layer)
        features = tower.deepstack_merger_list[number](hidden_states).unflatten(0, (run.segments, -1))
        run.tokens = replace(run.tokens, taps=run.tokens.taps | {number: features})


class Qwen3VLMoe(Qwen3VL):
    """`transformers`' Qwen3VLMoeForConditionalGeneration with merge points; experts change none of them."""

    key = "qwen3_vl_moe"
    stock_class = Qwen3VLMoeForConditionalGeneration


def step_times(times: Sequence[float], frames: int) -> list[float]:
    """Seconds of each step of so many frames: the middle between its first and its last.

    The last frame stands for those that an incomplete step lacks.
    """
    whole = [*times, *[times[-1]] * (-len(times) % frames)]
    return [(whole[i] + whole[i + frames - 1]) / 2 for i in range(0, len(whole), frames)]
