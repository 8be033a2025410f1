"""What vLLM 0.32 leaves out where it runs on a CPU."""

from __future__ import annotations

from vllm.v1.worker.cpu_model_runner import CPUModelRunner


def ask_for_positions() -> None:
    """Have a CPU's runner ask models for positions of what they left, as that of a GPU does.

    `GPUModelRunner.load_model` sets `is_multimodal_pruning_enabled`; `CPUModelRunner.load_model` replaces it
    and does not.
    """
    stock = CPUModelRunner.load_model

    def load_model(self, *args, **kwargs):
        stock(self, *args, **kwargs)
        model, media = self.get_model(), self.model_config.multimodal_config
        supported = hasattr(model, "wishes")  # ours: what vLLM's own do is left to it
        self.is_multimodal_pruning_enabled = bool(
            supported and media is not None and media.is_multimodal_pruning_enabled()
        )

    CPUModelRunner.load_model = load_model
