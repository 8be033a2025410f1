"""Gemma 4's large models, whose images see both ways, and what bounds a picture's tokens."""

import pytest
import torch

from illava_cli import load
from illava_cli.bench.stock import stock_family
from illava_cli.config import MediaOptions, resolve
from illava_cli.engine.session import Request
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.layers import Layers
from tests.asked_alike import pieces_of, schedule_of
from tests.builders import write_gemma4
from tests.conftest import clip, picture
from tests.reference import reference_conversation
from tests.schedules import SCHEDULES
from tests.stock import Stock
from tests.tolerances import FLOAT32, FLOAT64

CASES = {
    "image": {"images": [picture(200, 150, 1)]},
    "two images": {"images": [picture(120, 90, 5), picture(64, 140, 6)]},
    "image and video": {"images": [picture(150, 150, 7)], "videos": [clip(3, 64, 96, 2)]},
    "text": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_gemma4(tmp_path_factory.mktemp("gemma4") / "large", large=True)


@pytest.fixture(scope="module")
def stock(folder):
    return Stock(folder)


def opened(folder, *settings):
    settings = ["model.device=cpu", "generation.max_tokens=6", *settings]
    return load(config=resolve(str(folder), settings=settings, environ={}))


def message(prompt, images=(), videos=()):
    media = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    return {"role": "user", "content": [*media, {"type": "text", "text": prompt}]}


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_a_large_model_equals_transformers(folder, stock, case, attn):
    media = CASES[case]
    answer = opened(folder, "preset=off", f"model.attn={attn}").ask("What is it?", **media, logits=True)
    text = stock.chat([message("What is it?", **media)])
    videos = [list(v) for v in media.get("videos", ())]
    logits, tokens = stock.answer(text, media.get("images", ()), videos, tokens=6)
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]


def test_a_large_model_sees_a_later_image_as_in_one_prompt(folder, stock):
    first, second = CASES["two images"]["images"]
    chat = opened(folder, "preset=off").chat()
    chat.recall("What is it?", [first], answer="A square.")  # whose words have the same tokens in both
    answer = chat.ask("And this?", images=[second], logits=True)
    turns = [
        message("What is it?", [first]),
        {"role": "assistant", "content": "A square."},
        message("And this?", [second]),
    ]
    logits, _ = stock.answer(stock.chat(turns), [first, second])
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)


def test_prompts_in_parts_are_not_cut_within_an_image(folder, monkeypatch):
    """Its first tokens see its last ones."""
    session = opened(folder, "preset=off")
    whole = session.ask("What is it?", **CASES["image"], logits=True)
    session.passes.scheduler.chunk = 16
    again = session.ask("What is it?", **CASES["image"], logits=True)
    torch.testing.assert_close(again.logits, whole.logits, **FLOAT32)
    monkeypatch.setattr(Layers, "whole", False)
    cut = session.ask("What is it?", **CASES["image"], logits=True)
    assert (cut.logits - whole.logits).abs().max() > 10 * FLOAT32["atol"]


@pytest.mark.usefixtures("exact_in_float64")
@pytest.mark.parametrize("case", [case for case in CASES if case != "text"])
def test_a_large_model_s_merged_logits_equal_the_reference(folder, case):
    media = CASES[case]
    _, settings = SCHEDULES["gemma4, paper"]
    session = opened(folder, *settings, "model.dtype=float64")
    request = Request("What is it?", media["images"], media.get("videos", ()))
    answer = session.ask(request.prompt, request.images, request.videos, logits=True)
    result = reference_conversation(session.model, [pieces_of(session, request)], schedule_of(session))
    torch.testing.assert_close(answer.logits, result.logits, **FLOAT64)
    kept = answer.usage.visual.llm_kept
    assert kept == sum(c.llm_kept for c in result.counts) < answer.usage.visual.unmerged


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ((), 1),
        (("media.max_pixels=200000",), 70),
        (("media.max_pixels=1000",), 70),
        (("media.min_pixels=161281",), 140),
        (("media.min_pixels=400000",), 280),
        (("media.min_pixels=100000000",), 1120),
    ],
)
def test_bounds_on_pixels_choose_the_budget(folder, settings, tokens):
    """280 tokens are 645,120 pixels; the checkpoint's own budget is 70."""
    used = opened(folder, "preset=off", *settings).ask("?", images=[picture(480, 480, 1)]).usage.visual
    root = int(max(tokens, 70) ** 0.5)
    assert used.llm_in == root**2


@pytest.mark.parametrize("setting", ["llm={layers: [2], keep: 0.5}", "method=fastv"])
def test_nothing_merges_in_its_decoder(folder, setting):
    with pytest.raises(UsageError, match=r"nothing merges in the decoder of Gemma 4"):
        opened(folder, "preset=off", "layout=faithful", setting)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"text_config": {"use_bidirectional_attention": "all"}}, "all tokens see one another"),
        ({"vision_config": None}, "no vision tower"),
    ],
)
def test_other_builds_are_refused(tmp_path, overrides, said):
    folder = write_gemma4(tmp_path / "checkpoint", large=True, **overrides)
    with pytest.raises(ModelError, match=said):
        opened(folder)


def test_a_window_bounds_what_the_last_token_is_seen_to_attend(folder, stock):
    media = CASES["image"]
    answer = opened(folder, "preset=off").ask("What is it?", **media, trace="attention")
    inputs = stock.inputs(stock.chat([message("What is it?", **media)]), media["images"])
    stock.model.set_attn_implementation("eager")
    maps = stock.model(**inputs, output_attentions=True).attentions
    stock.model.set_attn_implementation("sdpa")
    for layer, whole in enumerate(maps):
        received = answer.trace["llm_attention"][layer]
        torch.testing.assert_close(received, whole[0, :, -1].mean(0)[None], atol=1e-5, rtol=0)
    assert (answer.trace["llm_attention"][0] == 0).sum() > 40  # which the window of 24 leaves out


@pytest.mark.parametrize(
    ("least", "most", "tokens"), [(300_000, 300_001, 70), (700_000, None, 560), (None, 330_000, 70)]
)
def test_the_unmodified_model_is_given_what_the_processor_fills_up(folder, least, most, tokens):
    family = opened(folder, "preset=off").family
    given = MediaOptions(min_pixels=least, max_pixels=most)
    images = [picture(40, 40, 1), picture(300, 30, 2)]
    assert family.budget("image", given) == tokens
    pixels = [family.preprocess_image(image, given, False) for image in images]
    inputs = stock_family(family).inputs(family.model, pixels)
    batch = family.image_processor(images, max_soft_tokens=family.budget("image", given), return_tensors="pt")
    for name in ("pixel_values", "image_position_ids"):
        assert inputs[name].shape == batch[name].shape
    for ours, theirs in zip(inputs["image_position_ids"], batch["image_position_ids"], strict=True):
        assert {tuple(p) for p in ours.tolist()} == {tuple(p) for p in theirs.tolist()}
