"""Prompts for every family, of random pixels in float64."""

import torch

from tests.reference.values import Medium


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def anyres(size, tiles, seed=0, pinpoints=None):
    return Medium("anyres", noise(tiles + 1, 3, 84, 84, seed=seed), size=size, pinpoints=pinpoints)


def square(size, seed=0):
    return Medium("square", noise(1, 3, 84, 84, seed=seed), size=size)


def video(frames, seed=0):
    return Medium("video", noise(frames, 3, 84, 84, seed=seed))


def patches(kind, t, h, w, seed=0, seconds=None):
    return Medium(kind, noise(t * h * w, 3 * 2 * 14 * 14, seed=seed), grid_thw=(t, h, w), seconds=seconds)


def frames(t, h, w, run, seed=0):
    """A video of Qwen3-VL: each of its steps behind a word."""
    steps = [
        Medium("video", noise(h * w, 3 * 2 * 16 * 16, seed=seed + i), grid_thw=(1, h, w), run=run)
        for i in range(t)
    ]
    return [piece for i, step in enumerate(steps) for piece in ([7 + i, 11], step)]


def tiles(count, seed=0, run=None):
    """InternVL: tiles of an image and its overview, or a frame of a video."""
    kind = "image" if run is None else "video"
    return Medium(kind, noise(count, 3, 84, 84, seed=seed), run=run)


def wide_patches(h, w, seed=0):
    """An image of patches of 16x16."""
    return Medium("image", noise(h * w, 3 * 2 * 16 * 16, seed=seed), grid_thw=(1, h, w))


LLAVA_PROMPTS = {
    "text": [[3, 4, 5]],
    "one tile of one": [[3, 4], anyres((50, 60), 1), [5]],
    "2x2": [[3, 4], anyres((168, 150), 4), [5, 6]],
    "wide": [[3, 4], anyres((90, 300), 4), [5, 6]],
    "shrunk 3x3": [[3, 4], anyres((252, 252), 9), [5, 6]],
    "shrunk and cropped": [[3], anyres((200, 252), 9), [5, 6]],
    "square alone": [[3], square((50, 84)), [4]],
    "squares": [[3], square((84, 50)), [4], square((60, 60), 1), [5]],
    "video": [[3], video(3), [4, 5]],
    "image and video": [[3], video(2), [4], anyres((84, 160), 2), [6]],
    "all": [[3], anyres((84, 160), 2), video(2), [4], square((60, 60), 1), square((60, 70), 2), [6]],
}
NEXT_PROMPTS = {
    "text": [[3, 4, 5]],
    "2x2": [[3, 4], anyres((168, 150), 4), [5, 6]],
    "wide and tall": [[3, 4], anyres((90, 300), 3), [5], anyres((200, 90), 3, 1), [6]],
    "small": [[3, 4], anyres((40, 30), 2), [5, 6]],
}
QWEN_PROMPTS = {
    "text": [[3, 4, 5]],
    "image": [[3, 4], patches("image", 1, 4, 6), [5]],
    "two images": [[3, 4], patches("image", 1, 4, 6), [5], patches("image", 1, 8, 4, 1), [6, 7]],
    "video": [[3, 4], patches("video", 3, 4, 6), [5, 6]],
    "long video": [[3, 4], patches("video", 6, 4, 4), [5]],
    "mixture": [
        [3],
        patches("video", 2, 4, 6),
        patches("image", 1, 6, 6, 1),
        [6, 7],
        patches("image", 1, 4, 4),
        [8],
    ],
}
QWEN25_PROMPTS = QWEN_PROMPTS | {
    "ragged windows": [[3, 4], patches("image", 1, 10, 6), [5], patches("image", 1, 2, 14, 1), [6]],
    "one group": [[3], patches("image", 1, 2, 2), [5]],
    "timed videos": [
        [3],
        patches("video", 3, 6, 4, seconds=1.3),
        [4],
        patches("video", 2, 4, 6, 1, seconds=0.4),
        [5],
    ],
}
QWEN3_PROMPTS = {
    "text": [[3, 4, 5]],
    "image": [[3, 4], wide_patches(4, 6), [5]],
    "two images": [[3, 4], wide_patches(4, 6), [5], wide_patches(8, 4, 1), [6, 7]],
    "one group": [[3], wide_patches(2, 2), [5]],
    "video": [[3, 4], *frames(3, 4, 6, 0), [5, 6]],
    "mixture": [
        [3],
        *frames(2, 4, 6, 0),
        [9],
        wide_patches(6, 6, 1),
        [6, 7],
        *frames(3, 2, 4, 1, 5),
        wide_patches(4, 4),
        [8],
    ],
}
INTERNVL_PROMPTS = {
    "text": [[3, 4, 5]],
    "one tile": [[3, 4], tiles(1), [5]],
    "two images": [[3, 4], tiles(5), [5], tiles(3, 1), [6, 7]],
    "video": [[3, 4], tiles(1, 2, run=0), [6, 7], tiles(1, 3, run=0), [5, 6]],
    "mixture": [[3], tiles(3), [4], tiles(1, 2, run=0), [6, 7], tiles(1, 3, run=0), [8]],
}
PROMPTS = {
    "internvl": INTERNVL_PROMPTS,
    "llava": LLAVA_PROMPTS,
    "llava_next": NEXT_PROMPTS,
    "qwen": QWEN_PROMPTS,
    "qwen25": QWEN25_PROMPTS,
    "qwen3": QWEN3_PROMPTS,
    "qwen35": QWEN3_PROMPTS,
}
ALL_PROMPTS = [(family, name) for family, prompts in PROMPTS.items() for name in prompts]


def prompt_of(family, name):
    return PROMPTS[family][name]
