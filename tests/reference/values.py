"""What goes into the reference, what comes out, and what goes from part to part."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Medium:
    kind: str  # LLaVA: "anyres" | "square" | "video"; Qwen: "image" | "video"
    pixel_values: Tensor  # LLaVA: (tiles or frames, 3, S, S), anyres: base tile first; Qwen: (t*h*w, dim)
    size: tuple[int, int] | None = None  # anyres, square: the original image's (height, width)
    grid_thw: tuple[int, int, int] | None = None  # Qwen
    seconds: float | None = None  # Qwen2.5-VL's videos: from one t to the next
    run: int | None = None  # of a video that stands frame by frame: which one; its frames rank together
    pinpoints: list | None = None  # anyres: the allowed (height, width)s; None: the model's own


@dataclass
class Schedule:
    variant: str = "paper"  # or "authors": diagonal in the tower's scores, row newlines rank in the LLM
    layout: str = "grid"  # or "faithful" (not read for Qwen, which has one layout)
    positions: str = "packed"  # or "original" (not read for Qwen, which has one way)
    vision: dict[int, float] = field(default_factory=dict)  # layer -> r (Qwen: part of the groups dropped)
    llm: dict[int, float] = field(default_factory=dict)  # layer K >= 1 -> fraction kept
    queries: str = "last"  # or "visual", "visual-literal"
    scope: str = "medium"  # or "all"
    method: str = "illava"  # or another of `slow.METHODS`; LLM only where it has no meaning for the tower
    input: tuple[str, float | None] | None = None  # method and share kept between projector and decoder
    proportional: bool = False  # the tower's attention counts a token by its size


@dataclass
class Counts:
    patches: int  # enter the tower
    vision_kept: int  # leave it (Qwen: before the 2x2 merger)
    llm_in: int = 0  # image tokens that enter the decoder
    llm_kept: int = 0  # image tokens after its last merge
    newlines_in: int = 0
    newlines_kept: int = 0


@dataclass
class Token:
    embedding: Tensor
    kind: str  # "text", "image", "row" (newline at the end of an anyres row), "final" (any other newline)
    place: int  # index in its unmerged piece
    position: tuple[int, ...] = ()  # one number, or (t, h, w)
    turn: int = 0
    medium: int | None = None
    together: object = None  # what it ranks with in the decoder, by scope "medium"
    taps: tuple[Tensor, ...] = ()  # what is added to it after the decoder's first layers


@dataclass
class Encoded:
    """A medium after tower, projector and layout."""

    medium: Medium
    tokens: list[Token]
    length: int  # of the unmerged medium, newlines included
    counts: Counts
    kept: list[dict[int, list[int]]]


@dataclass
class Result:
    logits: Tensor  # (vocabulary,) after the last token
    counts: list[Counts]  # per medium
    prompt_tokens: int  # the decoder's input length
    next_position: int  # of the token that would be generated
    positions: list[tuple[int, ...]]  # of each token of the decoder's input
    vision_kept: list[list[dict[int, list[int]]]]  # [medium][tile][layer] -> cells (Qwen: groups) left
    llm_kept: dict[int, list[int]]  # K -> indices into the decoder's input of all that layers from K on see


def length_of(piece: list[int] | Encoded) -> int:
    """Of a piece without merging, in the decoder's input."""
    return piece.length if isinstance(piece, Encoded) else len(piece)
