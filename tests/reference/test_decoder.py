"""Merging before a decoder layer is a splice of stock layers; what ranks with what."""

import math

import pytest
import torch

from tests.reference import Counts, Schedule, reference, reference_conversation
from tests.reference.prompts import anyres, prompt_of, square, video
from tests.reference.splices import merge_with_tensors
from tests.reference.stock import stock_inputs
from tests.tolerances import EAGER


@pytest.mark.parametrize("queries", ["last", "visual", "visual-literal"])
@pytest.mark.parametrize(("family", "name"), [("llava", "video"), ("qwen", "image")])
def test_llm_merge_is_a_splice_of_stock_layers(family, name, queries, request):
    """Stock layers below K, the merge in tensors, stock layers from K on; two generated tokens follow."""
    model, pieces = request.getfixturevalue(f"eager_{family}"), prompt_of(family, name)
    level, keep, answer = 3, 0.6, [7, 8]
    inputs = stock_inputs(model, [*pieces, answer])
    text = model.model.language_model
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True, output_attentions=True)
        x, attention = out.hidden_states[level][0], out.attentions[level - 1][0].mean(0)
        first = len(pieces[0])
        n = reference(model, pieces, Schedule()).counts[0].llm_in
        visual = torch.arange(first, first + n)
        among = attention[visual][:, visual].tril(-1).sum(0)
        scores = {
            "last": attention[len(x) - 1 - len(answer), visual],
            "visual": among / torch.arange(n - 1, -1, -1),  # 0/0 for the last
            "visual-literal": among / (n - 1),
        }[queries].nan_to_num(math.inf)
        r = round(n * (1 - keep))
        merged, stay = merge_with_tensors(x[visual], scores, r)
        left = torch.cat([torch.arange(first), visual[stay], torch.arange(first + n, len(x))])
        if family == "qwen":
            positions, _ = model.model.get_rope_index(
                inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
            )
        else:
            positions = torch.arange(len(x))[None]
        rotary = text.rotary_emb(x[None], positions[..., left])
        x = torch.cat([x[:first], merged, x[first + n :]])[None]
        mask = torch.full((len(left), len(left)), -torch.inf).double().triu(1)[None, None]
        for layer in text.layers[level:]:
            x = layer(x, attention_mask=mask, position_embeddings=rotary)
        expected = model.lm_head(text.norm(x[0, -1]))
    schedule = Schedule(llm={level: keep}, queries=queries)
    result = reference_conversation(model, [pieces, [answer]], schedule)
    assert result.llm_kept[level] == left.tolist()
    assert result.counts[0].llm_kept == n - r
    torch.testing.assert_close(result.logits, expected, **EAGER)


def test_row_newlines_rank_with_the_authors_only(llava):
    pieces = [[3], anyres((168, 168), 4), square((60, 60), 1), video(2, 2), [4]]
    paper = reference(llava, pieces, Schedule(llm={2: 0.3, 3: 0.5}))
    # 180 - 126 - 27 of 36 + 144 image tokens; 36 - 25 - 6; 18 - 13 - 2
    assert paper.counts == [
        Counts(180, 180, 180, 27, 12, 12),
        Counts(36, 36, 36, 5, 1, 1),
        Counts(72, 72, 18, 3, 1, 1),
    ]
    authors = reference(llava, pieces, Schedule(llm={2: 0.3, 3: 0.5}, variant="authors"))
    tiled, *others = authors.counts
    assert tiled.llm_kept + tiled.newlines_kept == 192 - round(192 * 0.7) - round(
        (192 - round(192 * 0.7)) * 0.5
    )
    assert tiled.newlines_kept < 12
    assert [(c.llm_kept, c.newlines_kept) for c in others] == [(5, 1), (3, 1)]


def test_scope_all_shares_one_budget(llava):
    pieces = [[3], square((60, 60)), [4], video(2, 2), [5]]
    counts = reference(llava, pieces, Schedule(llm={2: 0.5}, scope="all")).counts
    assert sum(c.llm_kept for c in counts) == 54 - 27
    assert [c.llm_kept for c in counts] != [18, 9]
