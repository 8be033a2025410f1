"""Later turns and generated tokens."""

from dataclasses import replace

import pytest
import torch

from tests.reference import Schedule, reference, reference_conversation, reference_greedy
from tests.reference.prompts import prompt_of
from tests.tolerances import FLOAT64

pytestmark = pytest.mark.usefixtures("exact_in_float64")
SCHEDULES = {
    "llava": Schedule(layout="faithful", positions="original", vision={1: 5, 2: 6}, llm={2: 0.6, 4: 0.5}),
    "qwen": Schedule(vision={1: 0.3}, llm={2: 0.6, 4: 0.5}),
}


@pytest.mark.parametrize("scope", ["medium", "all"])
@pytest.mark.parametrize(
    ("family", "one", "two"), [("llava", "2x2", "image and video"), ("qwen", "image", "mixture")]
)
def test_a_later_turn_leaves_the_merges_of_the_earlier_alone(family, one, two, scope, request):
    model, schedule = request.getfixturevalue(family), replace(SCHEDULES[family], scope=scope)
    first, second = prompt_of(family, one), prompt_of(family, two)
    whole = reference(model, [*first, *second], Schedule())
    plain = reference_conversation(model, [first, second], Schedule())
    torch.testing.assert_close(plain.logits, whole.logits, **FLOAT64)
    alone = reference(model, first, schedule)
    both = reference_conversation(model, [first, second], schedule)
    assert both.counts[0] == alone.counts[0]
    assert both.positions[: alone.prompt_tokens] == alone.positions
    assert both.positions[alone.prompt_tokens][0] == alone.next_position
    for layer, left in alone.llm_kept.items():
        assert [i for i in both.llm_kept[layer] if i < alone.prompt_tokens] == left
    together = reference(
        model, [*first, *second], schedule
    )  # the first medium ranked by the second turn's end
    assert not torch.allclose(both.logits, together.logits)


@pytest.mark.parametrize(("family", "name"), [("llava", "2x2"), ("qwen", "mixture")])
def test_generated_tokens_are_a_turn_without_media(family, name, request):
    model, schedule, pieces = request.getfixturevalue(family), SCHEDULES[family], prompt_of(family, name)
    tokens = reference_greedy(model, pieces, schedule, 4)
    assert len(tokens) == 4
    assert tokens[0] == reference(model, pieces, schedule).logits.argmax()
    after = reference_conversation(model, [pieces, [tokens[:3]]], schedule)
    assert tokens[3] == after.logits.argmax()
    assert after.next_position == reference(model, pieces, schedule).next_position + 3
