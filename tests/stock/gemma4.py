"""Gemma 4: the processor's own functions write the text around images and frames."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    Gemma4ImageProcessorPil,
    convert_image_to_patches,
    get_aspect_ratio_preserving_size,
    pad_along_first_dim,
)

from illava_cli.bench.stock.gemma4 import together
from tests.stock.frames import normalised

PLACEHOLDERS = ("<|image|>", "<|video|>", "<|audio|>", "<|image>", "<image|>")
TYPED = True


def image_processor(folder, kind):
    return Gemma4ImageProcessorPil.from_pretrained(folder)


def media(stock, text, pictures, clips):
    """The text with placeholders; images, and the frames of all videos, each in their order.

    Written from `Gemma4Processor`, which transformers 5.17 cannot import without torchvision.
    """
    inputs = {}
    if pictures:
        batch = stock.image_processor(list(pictures), return_tensors="pt")
        inputs |= {name: batch[name] for name in ("pixel_values", "image_position_ids")}
        for tokens in batch["num_soft_tokens_per_image"].tolist():
            text = text.replace("<|image|>", _within_marks("\0" * tokens), 1)
    if clips:
        made = [_video(stock, clip) for clip in clips]
        for clip, (_, _, tokens) in zip(clips, made, strict=True):
            times = [index / (stock.fps or 24) for index in range(len(clip))]
            stamps = [f"{int(seconds // 60):02d}:{int(seconds % 60):02d}" for seconds in times]
            shown = " ".join(f"{stamp} {_within_marks(chr(1) * tokens)}" for stamp in stamps)
            text = text.replace("<|video|>", shown, 1)
        inputs |= together(stock.model, [pixels for pixels, _, _ in made], [places for _, places, _ in made])
    return text.replace("\0", "<|image|>").replace("\1", "<|video|>"), inputs


def _within_marks(tokens):
    return f"<|image>{tokens}<image|>"


def _video(stock, frames):
    """Pixels and places of each frame, filled up, and the tokens of one."""
    settings = json.loads((Path(stock.folder) / "processor_config.json").read_text())["video_processor"]
    patch, side, budget = (settings[k] for k in ("patch_size", "pooling_kernel_size", "max_soft_tokens"))
    most = budget * side**2
    height, width = get_aspect_ratio_preserving_size(*frames[0].shape[:2], patch, most, side)
    pixels, places = [], []
    for frame in frames:
        values = normalised(SimpleNamespace(**settings), frame, (width, height)).numpy()
        patches = convert_image_to_patches(values, patch)
        x, y = np.meshgrid(np.arange(width // patch), np.arange(height // patch), indexing="xy")
        own = np.stack([x, y], axis=-1).reshape(len(patches), 2)
        padded = pad_along_first_dim(patches, own, most)
        pixels.append(torch.from_numpy(padded[0]))
        places.append(torch.from_numpy(padded[1]))
    return torch.stack(pixels), torch.stack(places), len(patches) // side**2
