"""Weights with which a tower begins: those of a small convolutional network, more or less.

It would take long to become one by itself. Patches are whitened, so that edges count as much as areas.
Positions are sines and cosines of row and column, and each head of the first layers looks at one neighbour: a
shift of place is a rotation of those waves.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from illava_cli.evals.world import stream
from illava_cli.evals.world.render import draw
from illava_cli.evals.world.scene import draw_scene, draw_text

PICTURES = 200
FLOOR = 3e-3  # variance below which a direction of patch space is taken for noise
SHARPNESS = 2.0
CONTENT = 0.4  # spread of a patch beside its position: or attention would see likeness, not place
OFFSETS = (  # (rows, columns) by layer and head
    ((0, -1), (0, 1), (-1, 0), (1, 0)),
    ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    ((0, -2), (0, 2), (-2, 0), (2, 0)),
)


@torch.no_grad()
def start_siglip(tower) -> None:
    """Set patch and position embeddings, and where the attention of the first layers looks."""
    _whiten(tower.embeddings.patch_embedding)
    weight = tower.embeddings.position_embedding.weight  # (N, C)
    speeds = _speeds(weight.shape[1])
    weight.copy_(_positions(math.isqrt(weight.shape[0]), speeds))
    for layer, offsets in zip(tower.encoder.layers, OFFSETS, strict=False):
        attention = layer.self_attn
        heads, width = attention.num_heads, attention.head_dim
        for head, (down, right) in zip(range(heads), offsets, strict=False):
            rows = slice(head * width, (head + 1) * width)
            for projection, shift in ((attention.k_proj, (0, 0)), (attention.q_proj, (down, right))):
                waves = _waves(speeds, width, shift) * SHARPNESS
                projection.weight[rows] = 0.3 * projection.weight[rows] + waves.to(projection.weight)
    for layer in tower.encoder.layers[len(OFFSETS) :]:
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


@torch.no_grad()
def start_qwen(tower) -> None:
    """Set patch and position embeddings; its attention tells neighbours by rotary embeddings of its own."""
    _whiten(tower.patch_embed.proj)
    weight = tower.pos_embed.weight  # (N, C)
    weight.copy_(_positions(math.isqrt(weight.shape[0]), _speeds(weight.shape[1])))


def _speeds(width: int) -> Tensor:
    """Radians a patch."""
    count = width // 4
    return 1.5 * 30.0 ** (-torch.arange(count) / count)


def _whiten(embedding: torch.nn.Conv2d | torch.nn.Conv3d) -> None:
    """Principal directions of patches, each of the same variance; frames of a patch count alike."""
    rng = stream("training/whitening", 0, "train")
    scenes = [draw_scene(rng, 3, texts=(draw_text(rng), draw_text(rng))) for _ in range(PICTURES)]
    size, frames = embedding.kernel_size[-1], embedding.kernel_size[0] if embedding.weight.ndim == 5 else 1
    pixels = torch.from_numpy(np.stack([np.asarray(draw(scene)) for scene in scenes]))
    pixels = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # as processors have it
    pixels = pixels.unfold(2, size, size).unfold(3, size, size)
    patches = pixels.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)  # (B * N, 3 * size * size)
    values, vectors = np.linalg.eigh(np.cov(patches.double().numpy().T))
    kept = min(len(values), embedding.out_channels)
    whitening = CONTENT * (vectors / np.sqrt(values + FLOOR)).T[::-1][:kept].copy()
    embedding.weight.normal_(std=1e-3)
    filters = torch.from_numpy(whitening).float().view(kept, 3, size, size) / frames
    embedding.weight[:kept] = filters if frames == 1 else filters[:, :, None].expand(-1, -1, frames, -1, -1)
    embedding.bias.zero_()
    embedding.bias[:kept] = -torch.from_numpy(whitening @ patches.double().mean(0).numpy()).float()


def _positions(side: int, speeds: Tensor) -> Tensor:
    """(side * side, 4 * len(speeds)): sines and cosines of the row, then of the column."""
    angles = torch.arange(side)[:, None] * speeds
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)], dim=-1).flatten(
        0, 1
    )


def _waves(speeds: Tensor, width: int, shift: tuple[int, int]) -> Tensor:
    """(width, 4 * len(speeds)) reads `width / 4` waves of row and column each, `shift` further on."""
    count, each = len(speeds), width // 4
    matrix = torch.zeros(width, 4 * count)
    for axis, step in enumerate(shift):
        for i in range(each):
            sine, cosine = 2 * axis * count + i, (2 * axis + 1) * count + i
            turn = float(speeds[i]) * step
            row = 2 * (axis * each + i)
            matrix[row, sine], matrix[row, cosine] = math.cos(turn), math.sin(turn)
            matrix[row + 1, cosine], matrix[row + 1, sine] = math.cos(turn), -math.sin(turn)
    return matrix
