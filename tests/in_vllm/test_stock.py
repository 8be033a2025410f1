"""Without merging it is vLLM's own model.

On media that nobody has to resize, which two libraries do a little apart, and on clips that are no longer in
positions than their frames are wide: text behind a longer one stands as `transformers` has it, where stock
vLLM begins behind its last moment.
"""

from __future__ import annotations

import pytest
from PIL import Image

from tests.conftest import clip, picture
from tests.in_vllm.asking import Question, answers, same
from tests.in_vllm.test_logprobs import FAMILIES

# frames stand in the prompt of Qwen3-VL by their seconds, which stock vLLM takes from what it is told
TIMES = (
    ("fps", 2.0), ("total_num_frames", 6), ("frames_indices", list(range(6))), ("duration", 3.0),
    ("do_sample_frames", False),
)  # fmt: skip
TILE = 84
CELL = dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), 28) | dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), 32)
EDGE = {28: 5, 32: 4}  # of a frame, in cells


def questions(family: str) -> list[Question]:
    """A picture, two of them, and a clip; in tiles also a larger one, of one colour: so is its overview."""
    if family in CELL:
        high, wide = EDGE[CELL[family]] * CELL[family], 3 * CELL[family]
        pictures = [picture(high, high, 1), picture(wide, high, 2)]
    else:
        pictures = [picture(TILE, TILE, 1), Image.new("RGB", (2 * TILE, 2 * TILE), (200, 90, 30))]
    asked = [Question("What is this?", (one,)) for one in pictures]
    if family != "llava_onevision":  # an image among others is one square there, where stock vLLM tiles each
        asked.append(Question("Which one is it?", tuple(pictures)))
    if family != "llava_next":
        high, wide = pictures[0].height, pictures[0].width
        asked.append(Question("Which way?", (), (clip(6, high, wide),), TIMES))
    return asked


@pytest.mark.parametrize("family", FAMILIES)
def test_without_merging_it_is_vllms_own(engines, family):
    off = {"preset": "off"}
    session, asked = engines.session(family, off), questions(family)
    own = answers(engines.of(family, off), session, asked)
    stock = answers(engines.stock(family), session, asked)
    for one, other in zip(own, stock, strict=True):
        assert one.length == other.length
        same(one, other)
