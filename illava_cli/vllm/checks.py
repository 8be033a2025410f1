"""What of vLLM's settings would give wrong answers; told before any worker starts."""

from __future__ import annotations

from vllm.model_executor.models.config import VerifyAndUpdateConfig

from illava_cli.errors import UsageError


class Checks(VerifyAndUpdateConfig):
    """vLLM asks it about the whole configuration of our models."""

    @staticmethod
    def verify_and_update_config(vllm_config) -> None:
        """Refuse what cannot be right.

        Raises:
            UsageError: says what to leave out.
        """
        media = vllm_config.model_config.get_multimodal_config()
        lora = vllm_config.lora_config
        if vllm_config.parallel_config.pipeline_parallel_size > 1:
            raise UsageError(
                "pipeline parallelism: later ranks do not know where the tokens that stay were: give "
                "--tensor-parallel-size or --data-parallel-size"
            )
        if not media.is_multimodal_pruning_enabled():
            raise UsageError("--video-pruning-rate must be over 0: positions of what stays go its way")
        if vllm_config.compilation_config.cudagraph_mm_encoder:
            raise UsageError(
                "CUDA graphs of the encoder are of vLLM's own tower: leave cudagraph_mm_encoder out"
            )
        if lora is not None and lora.enable_tower_connector_lora:
            raise UsageError("LoRA on the tower is for vLLM's own: leave --enable-tower-connector-lora out")
