"""LLaVA-NeXT, LLaVA-OneVision and InternVL in vLLM: positions of one axis, with gaps where tokens have left.

M-RoPE with one section is a rope of one axis whose positions need not be consecutive. The other two rows of
positions have no meaning to it: they say where a medium begins, and which tokens are media's.
"""

from __future__ import annotations

from torch import Tensor
from vllm.model_executor.models.interns1 import InternS1ForConditionalGeneration
from vllm.model_executor.models.llava_next import LlavaNextForConditionalGeneration
from vllm.model_executor.models.llava_onevision import LlavaOnevisionForConditionalGeneration
from vllm.multimodal import MULTIMODAL_REGISTRY

from illava_cli.vllm.model import Merging, media_runs
from illava_cli.vllm.processor import Dummy, Info, Processor

POSITION, BEGIN, MARK = range(3)


class OneAxis(Merging):
    """A model whose positions have one axis."""

    def marked(self, rows: Tensor, mm_features) -> Tensor:
        rows[MARK] = 0
        for start, stop, _ in media_runs(mm_features):
            rows[MARK, start:stop] = 1
        return rows

    def forward(self, input_ids, positions: Tensor, *others, **named):
        """The decoder is given one row: of three, some that vLLM compiles would take the wrong length."""
        return super().forward(
            input_ids, positions[POSITION] if positions.ndim == 2 else positions, *others, **named
        )

    def media_of(self, input_ids: list[int] | Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return positions[MARK] == 1, positions[BEGIN : BEGIN + 1]

    def put(self, positions: Tensor, index: Tensor, places: Tensor) -> None:
        positions[POSITION, index] = places[0]


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaLlavaOnevision(OneAxis, LlavaOnevisionForConditionalGeneration):
    """LLaVA-OneVision."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaLlavaNext(OneAxis, LlavaNextForConditionalGeneration):
    """LLaVA-NeXT."""


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummy)
class IllavaInternVL(OneAxis, InternS1ForConditionalGeneration):
    """InternVL, which vLLM reads as the same architecture."""
