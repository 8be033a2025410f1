"""The loop over the vision tower's blocks, with the merge points in it.

    if layer in frames: segments = segments.across(merge)     # B -> B', whole frames
    h = h + attention(norm1(h))
    if layer in schedule: tokens = tokens.after(merge)        # N -> N - r
    h = h + mlp(norm2(h))

A tower works on segments of equal length: the tiles of an image or the frames of a video. A token is
what merges as one: a patch, or a group of patches that are joined later. Class tokens stand before the
patches and never merge.

Where frames merge, all of them have to have come to a layer before one goes on. So a pass holds them all, and
takes them through each block some at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from illava_cli.errors import MergeError
from illava_cli.models.binding import at_hand, replace_forward, stock_forward
from illava_cli.models.hf import versions
from illava_cli.models.tower_pass import TowerPass, TowerTokens


@dataclass(frozen=True)
class BlockParts:
    """Names of a block's parts.

    Args:
        after: what that which attention and MLP give goes through, where there is anything: norms, or
            parameters that it is multiplied by.
    """

    norm1: str
    attention: str
    norm2: str
    mlp: str
    after: tuple[str, str] | None = None

    def of(self, block: nn.Module) -> list[nn.Module]:
        """The parts, in order."""
        return [getattr(block, name) for name in (self.norm1, self.attention, self.norm2, self.mlp)]

    def added(self, block: nn.Module, number: int, given: Tensor) -> Tensor:
        """What a block adds to its input of what its attention (0) or MLP (1) gives."""
        if self.after is None:
            return given
        after = getattr(block, self.after[number])
        if isinstance(after, nn.Module):
            return after(given)
        with at_hand(block):
            return getattr(block, self.after[number]).to(given.device) * given


Arguments = Callable[[int, TowerTokens], dict]
Given = Callable[[int, Tensor, TowerPass], None]


def run_blocks(
    blocks: Iterable[nn.Module],
    parts: BlockParts,
    h: Tensor,
    run: TowerPass,
    arguments: Arguments,
    given: Given = lambda *_: None,
) -> Tensor:
    """The tower's loop.

    Args:
        h: hidden states, as the blocks take them.
        arguments: a block's further arguments, by its layer, for the tokens there are.
        given: is told what each layer gives.

    Raises:
        MergeError: a layer that is scheduled was not run, or its attention ran past us.
    """
    layer, held = -1, run.parted(run.entered(h))
    for layer, block in enumerate(blocks):
        if layer in run.plan.frames:
            held = run.parted(run.fewer_frames(layer, run.joined(held)))
        for number, (part, states) in enumerate(held):
            held[number] = part, _through(block, parts, layer, states, part, arguments, given)
    if layer < run.plan.deepest:
        raise MergeError(
            "what was scheduled in the vision tower did not happen: the model ran its layers 0 to "
            f"{layer}, and {run.plan.deepest} is scheduled ({versions()})"
        )
    return run.joined(held)


def _through(
    block: nn.Module,
    parts: BlockParts,
    layer: int,
    h: Tensor,
    run: TowerPass,
    arguments: Arguments,
    given: Given,
) -> Tensor:
    """Segments through one block."""
    norm1, attention, norm2, mlp = parts.of(block)
    more, bias = arguments(layer, run.tokens), run.bias(h.dtype)
    if not run.opens(layer):
        with attention.tap.recording(None, bias):
            h = block(h, **more)
        given(layer, h, run)
        return h
    with attention.tap.recording(partial(run.score, layer, windows=more.get("windows")), bias) as tap:
        attended = attention(norm1(h), **more)
    attended = attended[0] if isinstance(attended, tuple) else attended
    # accelerate may hold this block on another device, to which the block's own hook would have moved h
    h = h.to(attended.device) + parts.added(block, 0, attended)
    run.note(layer, tap.scores)
    if run.plan.budget.get(layer):
        tokens = run.tokens.holding(h, run.class_tokens).after(run.decide(layer))
        run.tokens, h = tokens.apart(like=h)
    h = h + parts.added(block, 1, mlp(norm2(h)))
    given(layer, h, run)
    return h


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile the blocks for where they do not merge; one graph serves all blocks and token counts."""
    for block in blocks:
        replace_forward(block, torch.compile(stock_forward(block), dynamic=True))
