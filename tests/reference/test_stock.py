"""With nothing to merge, the reference is the stock model."""

import pytest
import torch

from tests.reference import Schedule, reference, reference_greedy
from tests.reference.prompts import ALL_PROMPTS, LLAVA_PROMPTS, anyres, prompt_of
from tests.reference.stock import stock_inputs
from tests.tolerances import FLOAT64

pytestmark = pytest.mark.usefixtures("exact_in_float64")


@pytest.mark.parametrize(("family", "name"), ALL_PROMPTS)
def test_without_a_schedule_logits_are_the_stock_model_s(family, name, request):
    model, pieces = request.getfixturevalue(family), prompt_of(family, name)
    inputs = stock_inputs(model, pieces)
    with torch.no_grad():
        expected = model(**inputs).logits[0, -1]
    result = reference(model, pieces, Schedule())
    assert expected.std() > 0.1  # a model that says something
    torch.testing.assert_close(result.logits, expected, **FLOAT64)
    assert result.prompt_tokens == inputs["input_ids"].shape[1]
    for counts in result.counts:
        assert (counts.llm_kept, counts.newlines_kept) == (counts.llm_in, counts.newlines_in)


@pytest.mark.parametrize("name", [name for name in LLAVA_PROMPTS if name != "text"])
def test_without_removal_layouts_and_positions_are_one(llava, name):
    expected = reference(llava, LLAVA_PROMPTS[name], Schedule())
    for positions in ("packed", "original"):
        schedule = Schedule(layout="faithful", positions=positions, vision={1: 0}, llm={2: 1.0})
        result = reference(llava, LLAVA_PROMPTS[name], schedule)
        assert torch.equal(result.logits, expected.logits)
        assert result.positions == expected.positions
        assert result.next_position == expected.next_position


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llava", "2x2"),
        ("llava", "all"),
        ("qwen", "mixture"),
        ("qwen", "long video"),
        ("qwen25", "timed videos"),
    ],
)
def test_without_a_schedule_greedy_tokens_are_generate_s(family, name, request):
    model, pieces = request.getfixturevalue(family), prompt_of(family, name)
    inputs = stock_inputs(model, pieces)
    expected = model.generate(**inputs, do_sample=False, max_new_tokens=6)[0, inputs["input_ids"].shape[1] :]
    assert len(set(expected.tolist())) > 1
    assert reference_greedy(model, pieces, Schedule(), 6) == expected.tolist()


def test_filtered_pinpoints_are_those_of_a_model_that_has_only_them(llava, monkeypatch):
    few = [[84, 84], [84, 168]]
    pieces = [[3, 4], anyres((168, 300), 2, pinpoints=few), [5]]
    result = reference(llava, pieces, Schedule())
    monkeypatch.setattr(llava.config, "image_grid_pinpoints", few)
    with torch.no_grad():
        expected = llava(**stock_inputs(llava, pieces)).logits[0, -1]
    torch.testing.assert_close(result.logits, expected, **FLOAT64)


def test_feature_layer_counts_as_hidden_states_do(llava, monkeypatch):
    pieces = LLAVA_PROMPTS["one tile of one"]
    for layer in (-2, 3):
        monkeypatch.setattr(llava.config, "vision_feature_layer", layer)
        with torch.no_grad():
            expected = llava(**stock_inputs(llava, pieces)).logits[0, -1]
        torch.testing.assert_close(reference(llava, pieces, Schedule()).logits, expected, **FLOAT64)
    with pytest.raises(ValueError, match="the features need 3"):
        reference(llava, pieces, Schedule(vision={3: 1}))
