"""The reference itself: against the stock models, against splices of stock layers, and by hand."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl as modeling_qwen2_5_vl
import transformers.models.qwen2_vl.modeling_qwen2_vl as modeling_qwen2_vl
from torch import nn
from transformers import (
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.vision_utils import get_vision_window_index

from tests.builders import write_llava_next, write_llava_onevision, write_qwen2_5_vl, write_qwen2_vl
from tests.reference import (
    QWEN,
    Cell,
    Counts,
    Medium,
    Schedule,
    coarse,
    encode_llava,
    encode_qwen,
    grid_layout,
    join_nearest,
    llm_scores,
    merge,
    merge_plan,
    padding_cells,
    received,
    reference,
    reference_conversation,
    reference_greedy,
)
from tests.tolerances import EAGER, FLOAT64


def load(cls, folder, **kwargs):
    model = cls.from_pretrained(folder, dtype=torch.float64, **kwargs).eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(scope="module")
def llava_folder(tmp_path_factory):
    return write_llava_onevision(tmp_path_factory.mktemp("llava"), dtype=torch.float64)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory):
    return write_qwen2_vl(tmp_path_factory.mktemp("qwen"), dtype=torch.float64)


@pytest.fixture(scope="module")
def qwen25_folder(tmp_path_factory):
    return write_qwen2_5_vl(tmp_path_factory.mktemp("qwen25"), dtype=torch.float64)


@pytest.fixture(scope="module")
def llava(llava_folder):
    return load(LlavaOnevisionForConditionalGeneration, llava_folder)


@pytest.fixture(scope="module")
def next_folder(tmp_path_factory):
    return write_llava_next(tmp_path_factory.mktemp("next"), dtype=torch.float64)


@pytest.fixture(scope="module")
def llava_next(next_folder):
    return load(LlavaNextForConditionalGeneration, next_folder)


@pytest.fixture(scope="module")
def qwen(qwen_folder):
    return load(Qwen2VLForConditionalGeneration, qwen_folder)


@pytest.fixture(scope="module")
def qwen25(qwen25_folder):
    return load(Qwen2_5_VLForConditionalGeneration, qwen25_folder)


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


# ---- the stock models on the same pieces ----


def stock_inputs(model, pieces):
    """What the unmodified model is called with."""
    one = encode_qwen if model.config.model_type in QWEN else encode_llava
    ids, types = [], []
    for piece in pieces:
        if isinstance(piece, Medium):  # a wrong length makes HF raise
            n = one(model, piece, Schedule()).length
            is_video = piece.kind == "video"
            ids += [getattr(model.config, f"{'video' if is_video else 'image'}_token_id")] * n
            types += [2 if is_video else 1] * n
        else:
            ids, types = ids + piece, types + [0] * len(piece)
    media = [piece for piece in pieces if isinstance(piece, Medium)]
    images, videos = [m for m in media if m.kind != "video"], [m for m in media if m.kind == "video"]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if model.config.model_type in QWEN:
        inputs["mm_token_type_ids"] = torch.tensor([types])
        if images:
            inputs["pixel_values"] = torch.cat([m.pixel_values for m in images])
            inputs["image_grid_thw"] = torch.tensor([m.grid_thw for m in images])
        if videos:
            inputs["pixel_values_videos"] = torch.cat([m.pixel_values for m in videos])
            inputs["video_grid_thw"] = torch.tensor([m.grid_thw for m in videos])
            if seconds := [m.seconds for m in videos if m.seconds]:
                inputs["second_per_grid_ts"] = torch.tensor(seconds)
        return inputs
    if images:
        most = max(len(m.pixel_values) for m in images)
        inputs["pixel_values"] = torch.stack(
            [torch.cat([m.pixel_values, torch.zeros(most - len(m.pixel_values), 3, 84, 84)]) for m in images]
        )
        inputs["image_sizes"] = torch.tensor([m.size for m in images])
        if model.config.model_type == "llava_next":
            return inputs
        # HF tiles images that come alone and leaves those that come together.
        squares = sum(m.kind == "square" for m in images)
        assert [m.kind for m in images] == ["anyres"] * (len(images) - squares) + ["square"] * squares
        inputs["batch_num_images"] = torch.tensor(
            [1] * (len(images) - squares) + [max(squares, 2)] * (squares > 0)
        )
    if videos:
        inputs["pixel_values_videos"] = torch.stack([m.pixel_values for m in videos])
    return inputs


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
PROMPTS = {
    "llava": LLAVA_PROMPTS,
    "llava_next": NEXT_PROMPTS,
    "qwen": QWEN_PROMPTS,
    "qwen25": QWEN25_PROMPTS,
}
ALL_PROMPTS = [(family, name) for family, prompts in PROMPTS.items() for name in prompts]


def prompt_of(family, name):
    return PROMPTS[family][name]


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


# ---- the merge, by hand ----


def test_merge_by_hand():
    x = torch.tensor([[1.0], [10.0], [100.0], [1000.0], [10000.0]], dtype=torch.float64)
    # ascending: 3 (0.1), 1 (0.2), 4 (0.2, later), 0, 2; two leave: weights 3, 2, 1 on 3, 1, 4
    merged, kept, sizes = merge(x, x, [0.3, 0.2, 0.4, 0.1, 0.2], [1, 2, 1, 3, 1], 2, "illava")
    assert (kept, sizes) == ([0, 2, 4], [1, 1, 6])
    expected = torch.tensor([1.0, 100.0, (3 * 1000 + 2 * 10 + 1 * 10000) / 6], dtype=torch.float64)
    torch.testing.assert_close(merged[:, 0], expected)


def test_padding_leaves_first_and_is_dropped():
    scores = [0.5, 0.1, 0.9, 0.2, 0.3, 0.4]
    # order: padding 2, 5, then 1, 3, 4, 0; three leave (2, 5, 1), the pooled are 1 and 3 with weights 2, 1
    kept, anchor, parts = merge_plan(scores, 3, {2, 5})
    assert (kept, anchor) == ([0, 3, 4], 3)
    assert parts == [(1, 2 / 3), (3, 1 / 3)]
    # only padding leaves: nothing is pooled, whether the next is padding or not
    assert merge_plan(scores, 2, {2, 5}) == ([0, 1, 3, 4], 1, [(1, 1.0)])
    assert merge_plan(scores, 1, {2, 5}) == ([0, 1, 3, 4, 5], 5, [(5, 1.0)])


def test_at_least_one_token_stays():
    with pytest.raises(ValueError, match="at least one"):
        merge_plan([0.1, 0.2], 2)


def test_scores_by_hand():
    attention = torch.tensor([[[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]])
    assert received(attention, "paper") == pytest.approx([0.6 / 2, 0.7 / 2, 0.7 / 2])
    assert received(attention, "authors") == pytest.approx([1.2 / 3, 0.9 / 3, 0.9 / 3])
    causal = torch.tensor([[[1.0, 0, 0, 0], [0.3, 0.7, 0, 0], [0.2, 0.5, 0.3, 0], [0.1, 0.2, 0.3, 0.4]]])
    assert llm_scores(causal, [0, 1, 2], 3, "last") == pytest.approx([0.1, 0.2, 0.3])
    assert llm_scores(causal, [0, 1, 2], 3, "visual-literal") == pytest.approx([0.5 / 2, 0.5 / 2, 0])
    assert llm_scores(causal, [0, 1, 2], 3, "visual") == pytest.approx([0.5 / 2, 0.5, math.inf])


def test_join_nearest_by_hand():
    scores = {(0, 0): 0.1, (0, 2): 0.9, (1, 1): 0.3, (2, 0): 0.9, (2, 2): 0.2}
    cells = [Cell(y, x, torch.tensor([10.0**i]).double(), s) for i, ((y, x), s) in enumerate(scores.items())]
    kept = join_nearest(cells, 2)
    # (0, 0), (1, 1) and (2, 2) are as far from one as from the other: they join the first in raster order
    assert [(c.y, c.x) for c in kept] == [(0, 2), (2, 0)]
    assert [c.feature.item() for c in kept] == pytest.approx([(10 + 1 + 100 + 10000) / 4, 1000])
    assert [(c.y, c.x) for c in join_nearest(cells, 1)] == [(0, 2)]


def test_coarse_rows_by_hand():
    assert [coarse(k, 6, 3) for k in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [coarse(k, 5, 3) for k in range(5)] == [0, 0, 1, 2, 2]


# ---- merging, against splices of stock layers ----


@pytest.fixture(scope="module")
def eager_llava(llava_folder):
    return load(LlavaOnevisionForConditionalGeneration, llava_folder, attn_implementation="eager")


@pytest.fixture(scope="module")
def eager_next(next_folder):
    return load(LlavaNextForConditionalGeneration, next_folder, attn_implementation="eager")


@pytest.fixture(scope="module")
def eager_qwen(qwen_folder):
    return load(Qwen2VLForConditionalGeneration, qwen_folder, attn_implementation="eager")


@pytest.fixture(scope="module")
def eager_qwen25(qwen25_folder):
    return load(Qwen2_5_VLForConditionalGeneration, qwen25_folder, attn_implementation="eager")


def merge_with_tensors(x, scores, r):
    """(N, ...) -> (N - r, ...) and the indices that stay."""
    order = scores.argsort(stable=True)[: r + 1]
    weights = torch.arange(r + 1, 0, -1, dtype=torch.float64)
    x = x.clone()
    x[order[-1]] = torch.tensordot(weights / weights.sum(), x[order], 1)
    left = torch.tensor([i for i in range(len(x)) if i not in order[:-1].tolist()])
    return x[left], left


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


def stock_tile(model, tile, schedule):
    """Projected features, cells and last scores of a tile, with stock layers around the merges."""
    x, cells, scores = model.model.vision_tower.embeddings(tile[None]), torch.arange(36), None
    for index, layer in enumerate(model.model.vision_tower.encoder.layers):
        out, attention = layer.self_attn(layer.layer_norm1(x), None)
        x = x + out
        if index in schedule:
            n = x.shape[1]
            scores = (attention[0].mean(0) * (1 - torch.eye(n))).sum(0) / (n - 1)
            merged, left = merge_with_tensors(x[0], scores, schedule[index])
            x, cells, scores = merged[None], cells[left], scores[left]
        x = x + layer.mlp(layer.layer_norm2(x))
    return model.model.multi_modal_projector(x)[0], cells, scores


@torch.no_grad()
def test_tower_merge_is_a_splice_of_stock_layers(eager_llava, monkeypatch):
    """6x6 -> 32 -> 5x5 a tile, then HF's own packing for a tile side of 5."""
    model, config, schedule = eager_llava, eager_llava.config, {2: 4, 4: 7}
    medium = anyres((100, 168), 4, pinpoints=[[168, 168]])
    features = torch.stack([stock_tile(model, tile, schedule)[0] for tile in medium.pixel_values])
    with monkeypatch.context() as patch:
        patch.setattr(config.vision_config, "image_size", 5 * 14)
        patch.setattr(config, "image_grid_pinpoints", [[2 * 70, 2 * 70]])
        [expected], _ = model.model.pack_image_features(
            [features], [medium.size], model.model.image_newline, "anyres_max_4"
        )
    encoded = encode_llava(model, medium, Schedule(vision=schedule))
    assert encoded.counts == Counts(5 * 36, 5 * 25)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), expected, **EAGER)


@torch.no_grad()
def test_clip_s_class_token_attends_and_stays(eager_next, monkeypatch):
    """6x6 -> 32 -> 5x5 a tile beside the class token, all layers but the last, and HF's own packing."""
    model, config, schedule = eager_next, eager_next.config, {2: 4, 4: 7}
    medium, tower = anyres((100, 168), 4, pinpoints=[[168, 168]]), eager_next.model.vision_tower
    features = []
    for tile in medium.pixel_values:
        x = tower.pre_layrnorm(tower.embeddings(tile[None]))
        for index, layer in enumerate(tower.encoder.layers[:-1]):
            out, attention = layer.self_attn(layer.layer_norm1(x), None)
            x = x + out
            if index in schedule:
                n = x.shape[1]
                scores = (attention[0].mean(0) * (1 - torch.eye(n))).sum(0) / (n - 1)
                merged, _ = merge_with_tensors(x[0, 1:], scores[1:], schedule[index])
                x = torch.cat([x[0, :1], merged])[None]
            x = x + layer.mlp(layer.layer_norm2(x))
        features.append(model.model.multi_modal_projector(x[:, 1:])[0])
    with monkeypatch.context() as patch:
        patch.setattr(config.vision_config, "image_size", 5 * 14)
        patch.setattr(config, "image_grid_pinpoints", [[2 * 70, 2 * 70]])
        [expected], _ = model.model.pack_image_features(
            [torch.stack(features)], [medium.size], "default", model.model.image_newline
        )
    encoded = encode_llava(model, medium, Schedule(vision=schedule))
    assert encoded.counts == Counts(5 * 36, 5 * 25)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), expected, **EAGER)


def pool_with_tensors(features, yx, scores, m, before, after):
    """The m best with the means of their cells and their coarse (row, column), in the order of those."""
    order = (yx[:, 0] * before[1] + yx[:, 1]).argsort()
    features, yx, scores = features[order], yx[order], scores[order]
    kept = scores.argsort(descending=True, stable=True)[:m].sort().values
    distance = (yx[:, None] - yx[kept]).pow(2).sum(-1)  # (n, m)
    nearest = (distance * m + torch.arange(m)).argmin(1)
    nearest[kept] = torch.arange(m)
    joined = nn.functional.one_hot(nearest, m).double()
    means = (joined / joined.sum(0)).T @ features
    at = ((yx[kept] + 0.5) * torch.tensor(after) / torch.tensor(before)).floor().long()
    order = (at[:, 0] * after[1] + at[:, 1]).argsort(stable=True)
    return means[order], at[order]


@torch.no_grad()
def test_faithful_video_is_a_pooled_splice_of_stock_layers(eager_llava):
    schedule, medium = {2: 4, 4: 7}, video(3)
    features, places = [], []
    for frame, tile in enumerate(medium.pixel_values):
        x, cells, scores = stock_tile(eager_llava, tile, schedule)
        yx = torch.stack([cells // 6, cells % 6], dim=1)
        x, at = pool_with_tensors(x, yx, scores, round(9 * 25 / 36), (6, 6), (3, 3))
        features.append(x)
        places += (frame * 9 + at[:, 0] * 3 + at[:, 1]).tolist()
    encoded = encode_llava(eager_llava, medium, Schedule(layout="faithful", vision=schedule))
    *tokens, last = encoded.tokens
    assert [t.place for t in tokens] == places
    assert (last.place, encoded.length) == (27, 28)
    torch.testing.assert_close(torch.stack([t.embedding for t in tokens]), torch.cat(features), **EAGER)


@torch.no_grad()
def test_faithful_shrunk_image_is_a_pooled_splice_of_stock_layers(eager_llava):
    schedule, medium = {2: 4, 4: 7}, anyres((252, 252), 9)  # 18x18 cells, 12x12 for the LLM
    (base, base_cells, _), *tiles = (stock_tile(eager_llava, tile, schedule) for tile in medium.pixel_values)
    yx = [torch.stack([i // 3 * 6 + c // 6, i % 3 * 6 + c % 6], dim=1) for i, (_, c, _) in enumerate(tiles)]
    x, scores = torch.cat([x for x, _, _ in tiles]), torch.cat([s for _, _, s in tiles])
    x, at = pool_with_tensors(x, torch.cat(yx), scores, round(144 * 225 / 324), (18, 18), (12, 12))
    encoded = encode_llava(eager_llava, medium, Schedule(layout="faithful", vision=schedule))
    tokens = [t for t in encoded.tokens if t.kind == "image"]
    places = [36 + row * 13 + column for row, column in at.tolist()]
    assert [t.place for t in tokens] == base_cells.tolist() + places
    torch.testing.assert_close(torch.stack([t.embedding for t in tokens]), torch.cat([base, x]), **EAGER)


@torch.no_grad()
def test_qwen_tower_merge_is_a_splice_of_stock_layers(eager_qwen, monkeypatch):
    """Two frames of 4x6 patches at once, as segments: 6 -> 5 -> 3 groups each."""
    visual, schedule, medium = eager_qwen.model.visual, {2: 0.3, 4: 0.5}, patches("video", 2, 4, 6)
    maps, stock_eager = [], modeling_qwen2_vl.eager_attention_forward

    def recording(*args, **kwargs):
        out, attention = stock_eager(*args, **kwargs)
        maps.append(attention[0].mean(0))
        return out, attention

    monkeypatch.setattr(modeling_qwen2_vl, "eager_attention_forward", recording)
    x, places = visual.patch_embed(medium.pixel_values), torch.arange(12)
    h, w = torch.arange(4).view(2, 1, 2, 1), torch.arange(6).view(1, 3, 1, 2)
    hw = torch.stack([part.expand(2, 3, 2, 2).flatten() for part in (h, w)], dim=1).repeat(2, 1)
    rotary = visual.rotary_pos_emb(x, hw)
    for index, block in enumerate(visual.blocks):
        segments = torch.tensor([0, len(x) // 2, len(x)], dtype=torch.int32)
        x = x + block.attn(block.norm1(x), cu_seqlens=segments, position_embeddings=rotary)
        if index in schedule:
            g, halves, stay = len(x) // 8, [], []
            for frame, attention in enumerate(maps[-2:]):
                scores = (attention.sum(0) - attention.diagonal()) / (4 * g - 1)
                half = x.view(2, g, 4, -1)[frame]
                half, left = merge_with_tensors(half, scores.view(g, 4).mean(1), int(g * schedule[index]))
                halves.append(half.flatten(0, 1))
                stay.append(left + frame * g)
            x, stay = torch.cat(halves), torch.cat(stay)
            places = places[stay]
            rotary = tuple(part.view(2 * g, 4, -1)[stay].flatten(0, 1) for part in rotary)
        x = x + block.mlp(block.norm2(x))
    encoded = encode_qwen(eager_qwen, medium, Schedule(vision=schedule))
    assert [t.place for t in encoded.tokens] == places.tolist()
    assert encoded.counts == Counts(48, 2 * 3 * 4)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), visual.merger(x), **EAGER)


@torch.no_grad()
def test_windowed_tower_merge_is_a_splice_of_stock_layers(eager_qwen25, monkeypatch):
    """Two frames of 3x5 groups in HF's order, sorted by window, and back behind the last block."""
    visual, schedule, medium = (
        eager_qwen25.model.visual,
        {1: 0.3, 2: 0.2, 3: 0.2, 4: 0.3},
        patches("video", 2, 6, 10),
    )
    assert set(visual.fullatt_block_indexes) == {1, 4}
    maps, stock_eager = [], modeling_qwen2_5_vl.eager_attention_forward

    def recording(*args, **kwargs):
        out, attention = stock_eager(*args, **kwargs)
        maps.append(attention[0].mean(0))
        return out, attention

    monkeypatch.setattr(modeling_qwen2_5_vl, "eager_attention_forward", recording)
    places, borders = get_vision_window_index(torch.tensor([[2, 6, 10]]), 2, visual.window_size, 14)
    window = torch.arange(12).repeat_interleave(borders.diff() // 4)  # 2x3 a frame
    x = visual.patch_embed(medium.pixel_values)
    h, w = torch.arange(6).view(3, 1, 2, 1), torch.arange(10).view(1, 5, 1, 2)
    hw = torch.stack([part.expand(3, 5, 2, 2).flatten() for part in (h, w)], dim=1).repeat(2, 1)
    x, *rotary = (part.view(30, 4, -1)[places].flatten(0, 1) for part in (x, *visual.rotary_pos_emb(x, hw)))
    for index, block in enumerate(visual.blocks):
        together = window // 6 if index in visual.fullatt_block_indexes else window
        lengths = together.unique_consecutive(return_counts=True)[1] * 4
        segments = nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
        maps.clear()
        x = x + block.attn(block.norm1(x), cu_seqlens=segments, position_embeddings=rotary)
        if index in schedule:
            shares = [len(m) if together is window else 1 for m in maps]
            scores = torch.cat(
                [
                    (m.sum(0) - m.diagonal()) / (len(m) - 1) * share
                    for m, share in zip(maps, shares, strict=True)
                ]
            )
            scores, parts, stay = scores.view(-1, 4).mean(1), [], []
            for frame in range(2):
                mine = (window // 6 == frame).nonzero().squeeze(1)
                removed = int(len(mine) * schedule[index])
                part, left = merge_with_tensors(x.view(len(window), 4, -1)[mine], scores[mine], removed)
                parts.append(part.flatten(0, 1))
                stay.append(mine[left])
            x, stay = torch.cat(parts), torch.cat(stay)
            rotary = tuple(part.view(len(window), 4, -1)[stay].flatten(0, 1) for part in rotary)
            window, places = window[stay], places[stay]
        x = x + block.mlp(block.norm2(x))
    back = places.argsort()
    encoded = encode_qwen(eager_qwen25, medium, Schedule(vision=schedule))
    assert [t.place for t in encoded.tokens] == places[back].tolist()
    assert encoded.counts == Counts(120, 2 * 4 * (15 - 4 - 2 - 1 - 2))
    features = torch.stack([t.embedding for t in encoded.tokens])
    torch.testing.assert_close(features, visual.merger(x)[back], **EAGER)


@pytest.mark.parametrize(("layout", "in_llm", "kept"), [("grid", 3 * 9, 13), ("faithful", 3 * 6, 9)])
def test_video_counts(llava, layout, in_llm, kept):
    """36 -> 25 a frame; pooled to 3x3 of 5x5 (grid), to round(9 * 25 / 36) (faithful); the newline stays."""
    result = reference(llava, LLAVA_PROMPTS["video"], Schedule(layout=layout, vision={1: 11}, llm={2: 0.5}))
    assert result.counts == [Counts(3 * 36, 3 * 25, in_llm, kept, 1, 1)]


@pytest.mark.parametrize(
    ("kind", "size", "side", "length", "newlines"),
    [
        ("anyres", (480, 640), 27, 2929, 40),
        ("anyres", (1200, 300), 27, 3753, 108),
        ("anyres", (300, 300), 27, 1485, 27),
        ("anyres", (1536, 1152), 27, 7332, 93),
        ("square", (480, 640), 27, 730, 1),
        ("video", None, 27, 8 * 196 + 1, 1),
        ("anyres", (480, 640), 19, 1453, 28),
        ("anyres", (1200, 300), 19, 1881, 76),
        ("anyres", (300, 300), 19, 741, 19),
        ("video", None, 19, 801, 1),
    ],
)
def test_grid_layout_counts_what_the_original_codes_do(kind, size, side, length, newlines):
    """The numbers observed in LLaVA-NeXT's code (27x27) and, merged to 19x19, in the authors'."""
    tiles = {"square": 1, "video": 8, (480, 640): 5, (1200, 300): 5, (300, 300): 2, (1536, 1152): 13}
    cell, newline = Cell(0, 0, torch.zeros(1), 0.0), torch.ones(1)
    medium = Medium(kind, torch.empty(0), size=size)
    cells = [[cell] * side**2] * tiles.get(kind, tiles.get(size))
    tokens = grid_layout(medium, cells, newline, LlavaOnevisionConfig())
    assert (len(tokens), sum(t.kind != "image" for t in tokens)) == (length, newlines)
    assert all((t.kind == "image") == (t.embedding.item() == 0) for t in tokens)


# ---- faithful: survivors at their own place ----


@pytest.mark.parametrize("name", ["2x2", "wide", "square alone"])
@torch.no_grad()
def test_survivors_lie_where_their_feature_does_in_the_unmerged_medium(llava, name):
    """Merged behind the last attention, every survivor but the pooled one has its unmerged feature."""
    medium = next(piece for piece in LLAVA_PROMPTS[name] if isinstance(piece, Medium))
    unmerged = encode_llava(llava, medium, Schedule())
    last = len(llava.model.vision_tower.encoder.layers) - 1
    merged = encode_llava(llava, medium, Schedule(layout="faithful", vision={last: 16}))
    assert merged.length == unmerged.length
    same = [torch.allclose(t.embedding, unmerged.tokens[t.place].embedding) for t in merged.tokens]
    places = [t.place for t in merged.tokens]
    assert places == sorted(set(places))
    assert len(same) - sum(same) <= len(medium.pixel_values)
    newlines = [(t.place, t.kind) for t in merged.tokens if t.kind != "image"]
    assert newlines == [(t.place, t.kind) for t in unmerged.tokens if t.kind != "image"]


@torch.no_grad()
def test_qwen_survivors_lie_where_their_feature_does_in_the_unmerged_medium(qwen):
    medium = patches("video", 3, 6, 8)
    unmerged = encode_qwen(qwen, medium, Schedule())
    last = len(qwen.model.visual.blocks) - 1
    merged = encode_qwen(qwen, medium, Schedule(vision={last: 0.45}))
    assert merged.counts == Counts(3 * 48, 3 * 4 * (12 - 5))
    same = [torch.allclose(t.embedding, unmerged.tokens[t.place].embedding) for t in merged.tokens]
    places = [t.place for t in merged.tokens]
    assert places == sorted(set(places))
    assert (len(same), sum(same)) == (21, 18)


def test_padding_cells_by_hand(llava):
    config = llava.config
    columns = {cell for cell in range(36) if cell % 6 in (0, 5)}  # 21 of 84 pixels each side: 1.5 cells
    assert padding_cells(square((84, 42)), config) == [columns]
    rows = {cell for cell in range(36) if cell // 6 in (0, 5)}
    assert padding_cells(square((50, 100)), config) == [rows]
    assert padding_cells(square((83, 84)), config) == [set()]
    assert padding_cells(video(2), config) == [set(), set()]
    # 12x12 cells, of which unpad leaves rows 3 ... 8
    top, bottom = set(range(18)), set(range(18, 36))
    medium = anyres((100, 200), 4, pinpoints=[[168, 168]])
    assert padding_cells(medium, config) == [set(), top, top, bottom, bottom]


@torch.no_grad()
def test_padding_leaves_the_tower_first(llava):
    medium = anyres((100, 200), 4, pinpoints=[[168, 168]])
    some = encode_llava(llava, medium, Schedule(layout="faithful", vision={1: 10}))
    assert [sorted(kept[1]) for kept in some.kept[1:3]] == [list(range(10, 36))] * 2
    assert sorted(some.kept[3][1]) == [*range(18), *range(28, 36)]
    assert len(some.tokens) == 26 + 6 * 12 + 6  # the padding that stayed is cropped
    most = encode_llava(llava, medium, Schedule(layout="faithful", vision={1: 10, 2: 10}))
    assert all(min(kept[2]) >= 18 and len(kept[2]) == 16 for kept in most.kept[1:3])
    assert len(most.tokens) == 16 + 4 * 16 + 6
    assert most.length == 36 + 6 * 13
    places = [t.place for t in most.tokens]
    assert places == sorted(places)


@torch.no_grad()
def test_where_only_padding_leaves_nothing_is_pooled(llava):
    """Columns 0 and 5 are padding, 12 cells: merges of 12 in all pool nothing."""
    medium, last = square((84, 42)), len(llava.model.vision_tower.encoder.layers) - 1
    image = [cell for cell in range(36) if cell % 6 not in (0, 5)]
    two = encode_llava(llava, medium, Schedule(layout="faithful", vision={1: 5, 2: 7}))
    assert two.kept[0][2] == image
    one = encode_llava(llava, medium, Schedule(layout="faithful", vision={last: 12}))
    plain = encode_llava(llava, medium, Schedule())
    assert [t.place for t in one.tokens] == [*image, 36]
    for token in one.tokens:
        torch.testing.assert_close(token.embedding, plain.tokens[token.place].embedding)


@torch.no_grad()
def test_an_interpolated_grid_keeps_its_share(llava):
    medium = anyres((200, 252), 9)  # 18x18 cells, 14 rows left; HF: 14*18 / (4*36) -> ratio 1.32 -> 10x13
    config, plain = llava.config, encode_llava(llava, medium, Schedule())
    assert [t.kind for t in plain.tokens].count("row") == 10
    assert plain.length == 36 + 10 * 14
    merged = encode_llava(llava, medium, Schedule(layout="faithful", vision={1: 11}))
    inside = 9 * 25 - sum(max(len(p) - 11, 0) for p in padding_cells(medium, config))
    kinds = [t.kind for t in merged.tokens]
    assert kinds.count("row") == 10
    assert kinds.count("image") == 25 + round(130 * inside / (14 * 18))
    assert merged.length == plain.length
    rows = [(t.place - 36) // 14 for t in merged.tokens if t.place >= 36]
    assert rows == sorted(rows)
    assert set(rows) == set(range(10))


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
    # a 2x3 grid behind two text tokens: (t, h, w) from 2 on; text goes on behind the larger side
    mrope = reference(qwen, QWEN_PROMPTS["image"], Schedule(vision={1: 0.5}))
    groups = mrope.vision_kept[0][0][1]
    assert mrope.positions[2:-1] == [(2, 2 + g // 3, 2 + g % 3) for g in groups]
    assert (mrope.positions[-1], mrope.next_position) == ((5, 5, 5), 6)
    # six frames of 2x2: text goes on inside their t = 2 ... 7, and decoding behind the text, as in generate
    long = reference(qwen, QWEN_PROMPTS["long video"], Schedule(vision={1: 0.5}))
    assert (long.positions[-2][0], long.positions[-1], long.next_position) == (7, (4, 4, 4), 5)
    with pytest.raises(ValueError, match="not defined"):
        reference(llava, pieces, Schedule(positions="original"))
    with pytest.raises(ValueError, match="no square"):
        reference(llava, pieces, Schedule(vision={1: 1}))


def test_time_decides_positions(qwen25):
    """Two positions a second: steps of 1.3 s and 0.4 s are 2.6 and 0.8 apart, cut to whole numbers.

    Earlier releases of `transformers` (5.17 is one) cut the seconds already, and are 2 and 0 apart.
    """
    result = reference(qwen25, QWEN25_PROMPTS["timed videos"], Schedule())
    steps = [position[0] for position in result.positions]
    cut = "int(next(second_per_grid_ts))" in inspect.getsource(Qwen2_5_VLModel.get_rope_index)
    third = 5 if cut else 6
    assert steps == [0, *[1] * 6, *[3] * 6, *[third] * 6, 4, *[5] * 12, 8]


# ---- what a schedule decides ----


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
