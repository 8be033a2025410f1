"""A slow second implementation of iLLaVA, written from the definitions alone, to test the package against.

It shares no code with `illava_cli`; methods other than the paper's are those of `tests/reduction/slow.py`.
Everything is the plainest way to say it. One prompt at a time (no batch, padding or cache), one tile or frame
at a time. Full attention maps, with the softmax in the model's own dtype. Python loops over tokens.
Projections, norms and MLPs are the submodules of the stock `transformers` model. A family has a file for what
is its own; its test splices the merges into the stock layers, as a third way to the same numbers.

    reference(model, pieces, schedule)                after a prompt: logits, counts, kept sets
    reference_conversation(model, turns, schedule)    the same after several turns, earlier merges fixed
    reference_greedy(model, pieces, schedule, steps)  greedy tokens, with a recompute for every one

`pieces` is the prompt in order: lists of token ids, and a `Medium` in the place of each placeholder. A later
turn begins with the answer that was given (its tokens head that turn's first list); turns end with text.
Generated tokens are a turn without media and never re-score anything. Layers below K see the unreduced
sequence and them, layers from K on the survivors and them. Attention is causal, so a recompute is exact.
"""

import math
from collections.abc import Collection

import torch

from tests.reference import (
    gemma4,
    internvl,
    llava_next,
    llava_onevision,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_5,
    qwen3_vl,
)
from tests.reference.decoder import run
from tests.reference.values import Counts, Medium, Result, Schedule

__all__ = ["FAMILIES", "Counts", "Medium", "Schedule"]
# By model type. A family has encode(model, medium, schedule), positions(model, pieces), packs: whether
# survivors' positions may be packed, stock_inputs(model, images, videos), TYPED: whether the stock model is
# told the kinds of tokens; and decoder_layer(layer, x, rotary), where that is not `decoder.decoder_layer`, or
# a run(model, turns, schedule) of its own, which no test puts beside the stock model: it has no stock_inputs.
FAMILIES = {
    "gemma4": gemma4,
    "internvl": internvl,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
}


def encode(model, pieces: list, schedule: Schedule) -> list:
    """The pieces with every medium encoded."""
    family = FAMILIES[model.config.model_type]
    return [family.encode(model, p, schedule) if isinstance(p, Medium) else p for p in pieces]


def decode(model, turns: list[list], schedule: Schedule) -> Result:
    """After turns of token ids and encoded media."""
    family = FAMILIES[model.config.model_type]
    if hasattr(family, "run"):
        return family.run(model, turns, schedule)
    return run(family, model, turns, schedule)


@torch.no_grad()
def reference_conversation(model, turns: list[list], schedule: Schedule) -> Result:
    """After the last turn. Media are merged by their own turn's tokens, as at the time when they arrived."""
    return decode(model, [encode(model, pieces, schedule) for pieces in turns], schedule)


def reference(model, pieces: list, schedule: Schedule) -> Result:
    """After one prompt."""
    return reference_conversation(model, [pieces], schedule)


@torch.no_grad()
def reference_greedy(
    model, pieces: list, schedule: Schedule, steps: int, never: Collection[int] = ()
) -> list[int]:
    """`steps` greedy tokens (no token stops it), each from a recompute of everything after the tower.

    Those of `never` are not chosen.
    """
    encoded, answer = encode(model, pieces, schedule), []
    for _ in range(steps):
        turns = [encoded, [answer]] if answer else [encoded]
        logits = decode(model, turns, schedule).logits
        logits[list(never)] = -math.inf
        answer.append(int(logits.argmax()))
    return answer
