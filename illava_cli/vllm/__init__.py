"""illava inside vLLM: its scheduler, caches and parallel decoders behind our preprocessing, tower and layout.

What merges in the decoder becomes a reduction before it: a paged cache has one length for all layers.
"""

from __future__ import annotations

VERSIONS = ("0.32",)  # whose inner interfaces are known
MODELS = {  # family -> architecture, and where its class is
    "internvl": ("IllavaInternVL", "illava_cli.vllm.one_axis:IllavaInternVL"),
    "llava_next": ("IllavaLlavaNext", "illava_cli.vllm.one_axis:IllavaLlavaNext"),
    "llava_onevision": ("IllavaLlavaOnevision", "illava_cli.vllm.one_axis:IllavaLlavaOnevision"),
    "qwen2_vl": ("IllavaQwen2VL", "illava_cli.vllm.three_axes:IllavaQwen2VL"),
    "qwen2_5_vl": ("IllavaQwen2_5VL", "illava_cli.vllm.three_axes:IllavaQwen2_5VL"),
    "qwen3_vl": ("IllavaQwen3VL", "illava_cli.vllm.three_axes:IllavaQwen3VL"),
    "qwen3_vl_moe": ("IllavaQwen3VLMoe", "illava_cli.vllm.three_axes:IllavaQwen3VLMoe"),
}


def register() -> None:
    """The plugin: vLLM calls it in each of its processes, on every node."""
    from illava_cli.vllm.version import known

    if not known():
        return  # models of its own are none of our affair
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.platforms import current_platform

    from illava_cli.vllm.checks import Checks

    for name, place in MODELS.values():
        ModelRegistry.register_model(name, place)
        MODELS_CONFIG_MAP[name] = Checks
    if current_platform.is_cpu():
        from illava_cli.vllm.on_cpu import ask_for_positions

        ask_for_positions()
