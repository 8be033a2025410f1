"""A preset that says so, as `auto` does, takes a picture that neighbours predict as preset documents does."""

import pytest
import torch
from PIL import Image

from illava_cli.bench.geometry import merged_counts
from illava_cli.config import load_preset
from illava_cli.engine.request import Request
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture
from tests.stages import SHARES, TOWER, noise, under
from tests.tolerances import FLOAT32

FEW = "generation.max_tokens=2"
PHOTO, SHEET = picture(168, 168), Image.new("RGB", (168, 168), "white")
SHEET.paste(noise(40, 30), (50, 60))


@pytest.fixture
def presets(open_session, tmp_path):
    """Sessions under presets; `auto` is for small models here."""

    def get(family, *names):
        session = open_session(family, "preset=off")
        stages = [TOWER.get(family, SHARES)] + ["llm={layers: [2], keep: 0.5}"] * (family != "gemma4")
        lines = [f"    {name}: {value}" for name, value in (stage.split("=", 1) for stage in stages)]
        own = ["predictable: 0.5", "by_family:", f"  {session.family.schedule_key}:", "    layout: faithful"]
        auto = tmp_path / "auto.yaml"
        auto.write_text("\n".join([*own, *lines]), encoding="utf-8")
        return [under(session, f"preset={auto if name == 'auto' else name}", FEW) for name in names]

    return get


@pytest.mark.parametrize("family", [name for name in WRITERS if "moe" not in name])
def test_a_sheet_is_a_document_and_a_photo_is_none(family, presets):
    auto, documents, off = presets(family, "auto", "documents", "off")
    answer, expected = (one.ask("What?", [SHEET], logits=True) for one in (auto, documents))
    torch.testing.assert_close(answer.logits, expected.logits, **FLOAT32)
    assert answer.usage == expected.usage
    visual = answer.usage.visual
    assert min(visual.left_out, visual.patches) > 0
    assert visual.llm_kept == visual.llm_in
    (note,) = answer.notes
    told = f"{visual.left_out} of its {visual.patches + visual.left_out} patches"
    assert note == f"a picture was taken as a document: {told}, which neighbours predict, were left out"
    assert expected.notes == ()
    other = auto.ask("What?", [PHOTO])
    assert other.usage.visual.left_out == 0
    assert other.notes == ()
    if family != "gemma4":  # nothing merges in its decoder
        assert other.usage.visual.llm_kept < off.ask("What?", [PHOTO]).usage.visual.llm_kept


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "qwen3_vl", "internvl"])
def test_what_comes_with_a_document_is_merged_as_ever(family, presets):
    (auto,) = presets(family, "auto")
    images = [SHEET, noise(168, 168)]
    videos = [] if family in IMAGES_ONLY else [clip(6, 168, 168)]
    answer = auto.ask("Which?", images, videos, trace=True)
    visual = answer.usage.visual
    assert len(answer.notes) == 1
    assert visual.llm_kept < visual.llm_in
    prepared = auto.prepare(Request("Which?", images, videos), fresh=True)
    media = [one.pixels for one in prepared.slots.values()]
    assert [pixels.document for pixels in media] == [True, False] + [False] * len(videos)
    counts = merged_counts(auto, media, answer, 1)
    assert sum(one.segments * one.patches[0] for one in counts.media) == visual.patches
    left = [answer.usage.prompt_tokens]
    for layer in range(auto.family.text_config.num_hidden_layers):
        merges = dict(answer.trace["llm"])
        left.append(merges[layer].anchor.shape[1] if layer in merges else left[-1])
    assert list(counts.decoder) == left[1:]


def test_overrides_and_other_presets_know_no_documents(open_session, presets):
    session = open_session("qwen2_vl", "preset=off")
    auto, off = presets("qwen2_vl", "auto", "off")
    changed = under(session, f"preset={auto.config.preset}", FEW, "llm=null")
    for other in (changed, off):
        answer = other.ask("What?", [SHEET])
        assert answer.usage.visual.left_out == 0
        assert not any("document" in note for note in answer.notes)


def test_the_shipped_auto_says_so():
    assert load_preset("auto").predictable == 0.5
    assert load_preset("documents").predictable is None
