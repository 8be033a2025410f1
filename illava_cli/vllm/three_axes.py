"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL in vLLM: survivors keep their time, row and column.

Text stands before each of their media, so that the position before a run is a text's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from vllm.model_executor.models.qwen2_vl import Qwen2VLForConditionalGeneration
from vllm.model_executor.models.qwen3_vl import Qwen3VLForConditionalGeneration
from vllm.model_executor.models.qwen3_vl_moe import Qwen3VLMoeForConditionalGeneration
from vllm.multimodal import MULTIMODAL_REGISTRY

from illava_cli.models.media import Features
from illava_cli.vllm.model import Merging
from illava_cli.vllm.processor import Dummy, Info, Processor


class ThreeAxes(Merging):
    """A model with M-RoPE."""

    def media_of(self, input_ids: list[int] | Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.as_tensor(input_ids, device=positions.device)
        media = (ids == self.config.image_token_id) | (ids == self.config.video_token_id)
        steps = torch.arange(len(ids), device=ids.device)
        before = torch.where(media, 0, steps).cummax(0).values  # the last text before each token
        return media, positions[:, before] + 1


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaQwen2VL(ThreeAxes, Qwen2VLForConditionalGeneration):
    """Qwen2-VL."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaQwen2_5VL(ThreeAxes, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL."""


class DeepStack(ThreeAxes):
    """What DeepStack adds rides along with the features, as in vLLM's own tower."""

    def __init__(self, *, vllm_config, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        levels = len(self.config.vision_config.deepstack_visual_indexes)
        self.use_deepstack, self.deepstack_num_level = levels > 0, levels
        self.multiscale_dim = self.visual_dim * levels
        if levels:  # as vLLM's own has them, where its tower is there
            shape = vllm_config.scheduler_config.max_num_batched_tokens, self.visual_dim
            self.deepstack_input_embeds = [torch.zeros(shape) for _ in range(levels)]
            self.deepstack_input_embeds_num_tokens = 0

    def decoded(self, features: Features) -> Tensor:
        return torch.cat([features.embeds, *(features.injections[n] for n in sorted(features.injections))], 1)


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaQwen3VL(DeepStack, Qwen3VLForConditionalGeneration):
    """Qwen3-VL."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaQwen3VLMoe(DeepStack, Qwen3VLMoeForConditionalGeneration):
    """Qwen3-VL as a mixture of experts."""
