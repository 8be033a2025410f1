"""LLaVA-NeXT and LLaVA-OneVision."""

import numpy as np
import torch
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from tests.stock.frames import normalised

PROCESSORS = {
    "llava_next": LlavaNextImageProcessorPil,
    "llava_onevision": LlavaOnevisionImageProcessorPil,
}
PLACEHOLDERS = ("<image>", "<video>")
TYPED = False


def image_processor(folder, kind):
    return PROCESSORS[kind].from_pretrained(folder)


def images(stock, pictures, groups):
    nested, rest = [], pictures
    for n in groups or [len(pictures)]:
        nested.append(rest[:n])
        rest = rest[n:]
    batch = stock.image_processor(nested, return_tensors="pt")
    inputs = {name: torch.as_tensor(np.asarray(value)) for name, value in batch.items()}
    pixels = inputs["pixel_values"].to(stock.model.dtype)
    with torch.no_grad():
        features = stock.model.model.get_image_features(**inputs | {"pixel_values": pixels})
    return inputs, [len(f) for f in features.pooler_output]


def videos(stock, clips):
    config = stock.model.config.vision_config
    size = (config.image_size, config.image_size)
    frames = [torch.stack([normalised(stock.image_processor, f, size) for f in clip]) for clip in clips]
    pooled = (config.image_size // config.patch_size + 1) // 2
    return {"pixel_values_videos": torch.stack(frames)}, [len(clip) * pooled**2 + 1 for clip in clips]
