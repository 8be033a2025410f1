"""Qwen3-VL: the processor's own functions, which need no torchvision, write the text around frames."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

from tests.stock import qwen2_vl
from tests.stock.frames import normalised

PLACEHOLDERS, TYPED = qwen2_vl.PLACEHOLDERS, True
PATCH = 16


def image_processor(folder, kind):
    return Qwen2VLImageProcessorPil.from_pretrained(folder)


images = qwen2_vl.images


def videos(stock, clips):
    parts, grids = zip(*(_video(stock, clip) for clip in clips), strict=True)
    lengths = [h * w // 4 for t, h, w in grids for _ in range(t)]
    return {"pixel_values_videos": torch.cat(parts), "video_grid_thw": torch.tensor(grids)}, lengths


def _video(stock, frames):
    height, width = frames[0].shape[:2]
    settings = json.loads((Path(stock.folder) / "processor_config.json").read_text())
    limits = settings["video_processor"]["size"]
    least, most = limits["shortest_edge"], limits["longest_edge"]
    height, width = smart_resize(
        len(frames), height, width, factor=2 * PATCH, min_pixels=least, max_pixels=most
    )
    made = [normalised(stock.image_processor, f, (width, height)) for f in frames]
    return qwen2_vl.patches(made, height, width, PATCH)


def expanded(stock, text, clips):
    """As the processor does it; its own repetition of placeholders is left to the caller."""
    processor = Qwen3VLProcessor.__new__(Qwen3VLProcessor)
    processor.video_processor = SimpleNamespace(merge_size=2, temporal_patch_size=2)
    processor.vision_start_token, processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
    processor.video_token, processor.image_token = "<|video_pad|>", "<|image_pad|>"
    for clip in clips:
        metadata = SimpleNamespace(fps=stock.fps, frames_indices=np.arange(len(clip)))
        grid = torch.tensor([[(len(clip) + 1) // 2, 2, 2]])  # one token a step
        made = processor.replace_video_token({"video_grid_thw": grid, "video_metadata": [metadata]}, 0)
        text = text.replace("<|video_pad|>", made.replace("<|video_pad|>", "\0"), 1)
    return text.replace("\0", "<|video_pad|>")
