"""What a schedule decides: positions, and every layer and choice in it."""

import pytest
import torch

from tests.reference import Schedule, reference
from tests.reference.prompts import QWEN_PROMPTS, prompt_of, square


def test_positions(llava, qwen):
    pieces = [[3, 4], square((60, 60)), [5, 6]]
    packed = reference(llava, pieces, Schedule(layout="faithful", vision={1: 20}))
    assert packed.positions == [(i,) for i in range(2 + 16 + 1 + 2)]
    assert packed.next_position == 21
    original = reference(llava, pieces, Schedule(layout="faithful", positions="original", vision={1: 20}))
    cells = original.vision_kept[0][0][1]
    assert original.positions == [(i,) for i in [0, 1, *(2 + c for c in cells), 38, 39, 40]]
    assert original.next_position == 41
    assert not torch.allclose(packed.logits, original.logits)
    # a 2x3 grid after two text tokens: (t, h, w) from 2 on; text goes on after the larger side
    mrope = reference(qwen, QWEN_PROMPTS["image"], Schedule(vision={1: 0.5}))
    groups = mrope.vision_kept[0][0][1]
    assert mrope.positions[2:-1] == [(2, 2 + g // 3, 2 + g % 3) for g in groups]
    assert (mrope.positions[-1], mrope.next_position) == ((5, 5, 5), 6)
    # six frames of 2x2: text goes on inside their t = 2 ... 7, and decoding after the text, as in generate
    long = reference(qwen, QWEN_PROMPTS["long video"], Schedule(vision={1: 0.5}))
    assert (long.positions[-2][0], long.positions[-1], long.next_position) == (7, (4, 4, 4), 5)
    with pytest.raises(ValueError, match="not defined"):
        reference(llava, pieces, Schedule(positions="original"))
    with pytest.raises(ValueError, match="no square"):
        reference(llava, pieces, Schedule(vision={1: 1}))


@pytest.mark.parametrize(
    ("family", "name", "base", "other"),
    [
        ("llava", "2x2", {"vision": {2: 11}}, {"vision": {3: 11}}),
        ("llava", "2x2", {"llm": {2: 0.5}}, {"llm": {3: 0.5}}),
        ("llava", "2x2", {"vision": {2: 11}}, {"vision": {2: 11}, "variant": "authors"}),
        ("llava", "2x2", {"llm": {2: 0.5}}, {"llm": {2: 0.5}, "variant": "authors"}),
        ("llava", "2x2", {"llm": {2: 0.5}}, {"llm": {2: 0.5}, "queries": "visual"}),
        ("llava", "2x2", {"vision": {2: 11}}, {"vision": {2: 11}, "layout": "faithful"}),
        ("llava", "all", {"llm": {2: 0.5}}, {"llm": {2: 0.5}, "scope": "all"}),
        ("qwen", "mixture", {"vision": {2: 0.3}}, {"vision": {3: 0.3}}),
        ("qwen", "mixture", {"llm": {2: 0.5}}, {"llm": {3: 0.5}}),
        ("qwen25", "mixture", {"vision": {1: 0.3}}, {"vision": {2: 0.3}}),
        ("qwen25", "mixture", {"vision": {2: 0.3}}, {"vision": {3: 0.3}}),
        ("qwen25", "mixture", {"vision": {2: 0.3}}, {"vision": {2: 0.3}, "variant": "authors"}),
    ],
)
def test_a_layer_or_a_choice_more_or_less_changes_the_logits(family, name, base, other, request):
    model, pieces = request.getfixturevalue(family), prompt_of(family, name)
    plain, one, two = (reference(model, pieces, Schedule(**s)).logits for s in ({}, base, other))
    assert (one - plain).abs().max() > 1e-3
    assert (two - one).abs().max() > 1e-3
