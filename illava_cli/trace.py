"""What a traced answer tells: written by models and engine, read by whatever counts or draws tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from illava_cli.reduction import Merge

# how much is kept: nothing, every merge, or also the attention that each token received in every layer
Tracing = Literal[False, True, "attention"]
# kinds of a prompt's tokens
TEXT, VISUAL, NEWLINE = 0, 1, 2
# a step of a medium's way to the decoder: at which layer of the tower (before it -1, behind it its depth),
# and what happens, in the order in which it does
Step = tuple[int, int]
ENTER, FRAMES, TOWER, INPUT, POOL, CLIP = range(6)
Extent = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True)
class View:
    """One segment of a tower (a tile, a frame, a pair of frames), and the part of the picture it shows.

    Args:
        rows, columns: the segment's tokens, in raster order.
        extent: what the segment shows, in shares of the picture's width and height; beyond it lies padding.
        covered: share of that width and height which has tokens, from the top left: a border narrower
            than a patch has none (27 patches of 14 pixels cover 378 of 384).
        tile: row and column among the tiles of an image; None where a segment shows all of it.
        frame: index among the sampled frames of a video.
    """

    rows: int
    columns: int
    extent: Extent = (0.0, 0.0, 1.0, 1.0)
    covered: float = 1.0
    tile: tuple[int, int] | None = None
    frame: int | None = None


@dataclass
class DecoderTrace:
    """What a decoder's prefill leaves behind.

    Args:
        watched: keep `attention`.
        merges: layer and `Merge` of the prompt's tokens before it, (1, T) to (1, T').
        scores: by the layer before which tokens merge, what they were ranked by, (1, T).
        attention: by layer, what each token of the prompt receives of the last one's attention, (1, T).
    """

    watched: bool = False
    merges: list[tuple[int, Merge]] = field(default_factory=list)
    scores: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


class Trace(TypedDict):
    """`Generation.trace`. Lists have one entry for each medium: images, then videos.

    The way of a patch: `vision[m]` by step, `layout[m]` to the medium's decoder tokens, which stand at
    `where[m]` of the prompt, `llm`. Tokens are those of all segments, one segment after another.
    """

    vision: list[dict[Step, Merge]]  # (1, M) to (1, M'), S * N tokens before the first
    tower_layers: int
    patches_per_token: int  # in the tower: 4 where 2x2 patches merge as one, 9 of 3x3
    segments: list[int]
    views: list[list[View]]  # S of them
    padding: list[Tensor | None]  # (S, N) True for padding of the image
    layout: list[Merge]  # (1, M) to (1, T'), a row's or the final newline being a slot of no token
    where: list[Tensor]  # (T',)
    kinds: Tensor  # (1, T) of the prompt: TEXT, VISUAL or NEWLINE
    system_tokens: int  # of the prompt, before the user's words and media
    llm: list[tuple[int, Merge]]  # by decoder layer
    llm_scores: dict[int, Tensor]  # by decoder layer, what its merge ranked by
    vision_attention: list[dict[int, Tensor]]  # by tower layer, (M,); empty unless asked for
    llm_attention: dict[int, Tensor]  # by decoder layer, (1, T')
