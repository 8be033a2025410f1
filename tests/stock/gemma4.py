"""Gemma 4: the processor's own functions write the text around images and frames."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import Gemma4Processor
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    Gemma4ImageProcessorPil,
    convert_image_to_patches,
    get_aspect_ratio_preserving_size,
    pad_along_first_dim,
)

from tests.stock.frames import normalised

PLACEHOLDERS = ("<|image|>", "<|video|>", "<|audio|>", "<|image>", "<image|>")
TYPED = True


def image_processor(folder, kind):
    return Gemma4ImageProcessorPil.from_pretrained(folder)


def media(stock, text, pictures, clips):
    """The text with placeholders; images, and the frames of all videos, each in their order."""
    writer = Gemma4Processor.__new__(Gemma4Processor)
    writer.boi_token, writer.eoi_token = "<|image>", "<image|>"
    writer.image_token, writer.video_token = "\0", "\1"
    inputs = {}
    if pictures:
        batch = stock.image_processor(list(pictures), return_tensors="pt")
        inputs |= {name: batch[name] for name in ("pixel_values", "image_position_ids")}
        for number in range(len(pictures)):
            text = text.replace("<|image|>", writer.replace_image_token(batch, number), 1)
    if clips:
        made = [_video(stock, clip) for clip in clips]
        for clip, (_, _, tokens) in zip(clips, made, strict=True):
            times = [index / (stock.fps or 24) for index in range(len(clip))]
            metadata = SimpleNamespace(fps=stock.fps or 24, timestamps=times)
            about = {"num_soft_tokens_per_video": [tokens], "video_metadata": [metadata]}
            text = text.replace("<|video|>", writer.replace_video_token(about, 0), 1)
        inputs["pixel_values_videos"] = torch.cat([pixels for pixels, _, _ in made])
        inputs["video_position_ids"] = torch.cat([places for _, places, _ in made])
        inputs["num_frames_per_video"] = torch.tensor([len(clip) for clip in clips])
    return text.replace("\0", "<|image|>").replace("\1", "<|video|>"), inputs


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
