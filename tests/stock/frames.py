"""A frame of a video as a video processor makes it.

Written from `transformers`' video processors, which cannot be imported without torchvision: they fuse both
steps (`_fuse_mean_std_and_rescale_factor`), and torchvision's `normalize` is a difference and a quotient.
"""

import numpy as np
import torch
from PIL import Image


def normalised(processor, frame, size):
    """(3, H, W) of a frame (H, W, 3) uint8 at `size` (width, height), by a processor's settings."""
    values = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
    return rescaled_and_normalised(torch.from_numpy(values.copy()).permute(2, 0, 1), processor)


def rescaled_and_normalised(image, processor):
    """`rescale_and_normalize` of a (3, H, W) uint8 image."""
    mean, std = processor.image_mean, processor.image_std
    if processor.do_rescale and processor.do_normalize:
        mean = torch.tensor(mean) * (1.0 / processor.rescale_factor)
        std = torch.tensor(std) * (1.0 / processor.rescale_factor)
    elif processor.do_rescale:
        return image * processor.rescale_factor
    if not processor.do_normalize:
        return image.to(torch.float32)  # as the patches' projection gets it
    mean, std = (torch.as_tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std))
    return image.to(torch.float32).sub(mean).div(std)
