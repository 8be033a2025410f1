"""Qwen2-VL and Qwen2.5-VL."""

import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from tests.stock.frames import normalised

PLACEHOLDERS = tuple(f"<|{name}|>" for name in ("image_pad", "video_pad", "vision_start", "vision_end"))
TYPED = True


def image_processor(folder, kind):
    return Qwen2VLImageProcessorPil.from_pretrained(folder)


def images(stock, pictures, groups):
    batch = stock.image_processor(pictures, return_tensors="pt")
    inputs = {"pixel_values": batch["pixel_values"], "image_grid_thw": batch["image_grid_thw"]}
    return inputs, [int(grid.prod()) // 4 for grid in batch["image_grid_thw"]]


def videos(stock, clips):
    parts, grids = zip(*(_video(stock.image_processor, clip) for clip in clips), strict=True)
    inputs = {"pixel_values_videos": torch.cat(parts), "video_grid_thw": torch.tensor(grids)}
    if stock.seconds is not None:
        inputs["second_per_grid_ts"] = torch.tensor([stock.seconds] * len(grids))
    return inputs, [t * h * w // 4 for t, h, w in grids]


def _video(processor, frames):
    height, width = frames[0].shape[:2]
    limits = processor.size
    height, width = smart_resize(
        height, width, 28, min_pixels=limits["shortest_edge"], max_pixels=limits["longest_edge"]
    )
    frames = [normalised(processor, f, (width, height)) for f in frames]
    return patches(frames, height, width, 14)


def patches(frames, height, width, patch):
    """Patches by 2x2 groups (N, 3 * 2 * patch * patch) of frames (3, H, W), and their grid."""
    frames = [*frames, *[frames[-1]] * (len(frames) % 2)]
    found = []
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        both = torch.stack([first, second])  # (2, 3, H, W)
        for y in range(0, height, 2 * patch):
            for x in range(0, width, 2 * patch):
                for dy in (0, patch):
                    for dx in (0, patch):
                        cell = both[:, :, y + dy : y + dy + patch, x + dx : x + dx + patch]
                        found.append(cell.transpose(0, 1).flatten())  # (3, 2, patch, patch)
    return torch.stack(found), [len(frames) // 2, height // patch, width // patch]
