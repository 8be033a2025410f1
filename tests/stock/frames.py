"""A frame of a video as a video processor makes it."""

import numpy as np
import torch
from PIL import Image


def normalised(image_processor, frame, size):
    """(3, H, W) of a frame (H, W, 3) uint8 at `size` (width, height)."""
    values = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    mean, std = np.array(image_processor.image_mean), np.array(image_processor.image_std)
    return torch.from_numpy(((values / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)
