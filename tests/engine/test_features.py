"""The same medium goes through the tower once per session, and only the same."""

from dataclasses import replace

import pytest
import torch

from illava_cli.config import load_preset, resolve
from illava_cli.engine import runner
from illava_cli.engine.features import FeatureCache, content_key
from illava_cli.engine.opening import load
from illava_cli.models.encoder import encode
from illava_cli.models.media import Features
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32


@pytest.fixture
def counted(open_session, monkeypatch):
    """A session, and the list of how many media each pass of its tower took."""
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings, fresh=True)
    passes = []

    def encoded(family, media, *rest, **options):
        passes.append(len(media))
        return encode(family, media, *rest, **options)

    monkeypatch.setattr(runner, "encode", encoded)
    return session, passes


def test_a_repeated_picture_is_not_encoded_again(counted):
    session, passes = counted
    image, frames = picture(150, 90, 1), clip(3, 60, 60)
    first = session.ask("What?", [image], [frames], logits=True)
    again = session.ask("What?", [image], [frames], logits=True)
    assert passes == [2]
    assert torch.equal(first.logits, again.logits)
    assert first.usage == again.usage
    session.ask("What?", [picture(150, 90, 2)])
    assert passes == [2, 1]


def test_a_batch_encodes_equal_pictures_once(counted):
    session, passes = counted
    image = picture(150, 90, 1)
    session.ask_batch([{"prompt": "One?", "images": [image]}, {"prompt": "Two?", "images": [image.copy()]}])
    assert passes == [1]


def test_what_changes_the_features_changes_the_key(counted):
    session, passes = counted
    image = picture(150, 90, 1)
    session.ask("What?", [image])
    session = session.with_merging(False)
    whole = session.ask("What?", [image]).usage.visual
    assert whole.vision_kept == whole.patches
    session = session.with_merging(True)
    session.ask("What?", [image, picture(50, 50)])  # with company it is one padded square
    session = session.updated(["max_tiles=1"])
    session.ask("What?", [image])
    assert passes == [1, 1, 2, 1]


def test_a_tiled_image_is_the_same_with_company(counted):
    session, passes = counted
    image = picture(150, 90, 1)
    whole = session.ask("What?", [image]).usage.visual
    session = session.updated(["tile_each=true"])
    both = session.ask("What?", [image, picture(50, 50)]).usage.visual
    session = session.updated(["tile_each=false"])
    squares = session.ask("What?", [image, picture(50, 50)]).usage.visual
    assert passes == [1, 1, 2]
    assert both.llm_in > whole.llm_in
    assert squares.patches < both.patches


def entry(size: int) -> Features:
    tokens = torch.zeros(1000, dtype=torch.uint8)[:size]  # a view of something larger
    return Features(tokens, tokens[:0], tokens[:0], 0, tokens[:0], 0, 0, 0, 0, 0, 0, frames=(0, 0))


def test_the_least_recently_used_leave():
    cache = FeatureCache(100)
    one = entry(40)
    cache.put("one", one), cache.put("two", entry(40))
    assert torch.equal(cache.get("one").embeds, one.embeds)
    assert cache.get("one").embeds.untyped_storage().nbytes() == 40
    cache.put("three", entry(40))
    assert [cache.get(key) is not None for key in ("one", "two", "three")] == [True, False, True]
    cache.put("huge", entry(101))
    assert cache.get("huge") is None
    assert cache.bytes == 80


def test_keys_tell_pixels_shapes_and_settings_apart():
    image = picture(20, 10)
    keys = {
        content_key([image]),
        content_key([image], 1),
        content_key([image.transpose(2)]),
        content_key([image] * 2),
    }
    assert len(keys) == 4
    assert content_key([image.copy()]) in keys


def test_media_of_few_tokens_are_not_merged_and_it_is_said(open_session):
    """What `auto` does below a measured number of tokens; each medium counts for itself."""
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, fresh=True)
    small, large = picture(60, 60, 1), picture(160, 160, 2)
    merged = session.ask("What?", [large]).usage.visual
    session.features.clear()
    session = replace(session, min_visual_tokens=10)
    answer = session.ask("What?", [small, large])
    assert answer.notes == ("media of fewer than 10 visual tokens were not merged",)
    tokens = answer.usage.visual.patches - merged.patches
    assert answer.usage.visual.vision_kept == merged.vision_kept + tokens
    assert answer.usage.visual.llm_kept == merged.llm_kept + tokens // 4
    assert session.ask("What?", [small, large]).notes == answer.notes  # also of what was encoded before
    whole = session.ask("What?", [small], logits=True)
    session = session.with_merging(False)
    session.features.clear()
    off = session.ask("What?", [small], logits=True)
    torch.testing.assert_close(whole.logits, off.logits, **FLOAT32)


def test_media_of_few_tokens_that_were_encoded_without_merging_are_not_merged(open_session):
    """A schedule of the decoder alone changes no features: they serve both."""
    settings = ("preset=off", "llm={layers: [2], keep: [0.5]}", "layout=faithful", "generation.max_tokens=2")
    session = replace(open_session("qwen2_vl", *settings, fresh=True), min_visual_tokens=10)
    off = session.with_merging(False).ask("What?", [picture(60, 60, 1)], logits=True)
    few = session.ask("What?", [picture(60, 60, 1)], logits=True)
    assert few.usage.visual.llm_kept == off.usage.visual.llm_kept
    assert torch.equal(few.logits, off.logits)


def test_auto_has_a_threshold_and_toys_have_none(open_session):
    assert load_preset("auto").min_visual_tokens > 0
    toy = load(config=resolve("random:qwen2-vl-toy", settings=["model.device=cpu"], environ={}))
    assert toy.min_visual_tokens == 0


def test_each_preset_of_a_benchmark_has_its_own_threshold(open_session, checkpoints):
    session = open_session("qwen2_vl", "preset=off")
    assert session.min_visual_tokens == 0
    auto = resolve(checkpoints("qwen2_vl"), settings=["preset=auto", "model.device=cpu"], environ={})
    assert session.under(auto).min_visual_tokens == load_preset("auto").min_visual_tokens > 0
