"""What the stages do to a medium does not depend on what comes with it."""

import pytest
import torch

from illava_cli.engine.request import Request
from illava_cli.models import encoder
from tests.conftest import clip
from tests.engine.test_identity import DTYPES
from tests.stages import STAGES, VIDEO, film, noise, page, settings_of, under
from tests.tolerances import FLOAT32

ROWS = [
    Request("One.", videos=[film(6, 128, 96, 1)]),
    Request("No picture at all, and a longer question?"),
    Request("Which of the two?", videos=[film(6, 128, 96, 1), film(6, 128, 96, 2)]),
    Request("This <image>, <video> and <image>?", [page(150, 120, 1), noise(150, 120, 2)], [clip(3, 60, 80)]),
]
ASKED = [(family, name) for family in ("llava_onevision", "qwen3_vl") for name in STAGES]
ASKED += [(family, "pixels, tower") for family in VIDEO if family not in ("llava_onevision", "qwen3_vl")]
ASKED += [(family, "clip, tower") for family in ("qwen2_vl", "qwen2_5_vl", "internvl", "gemma4")]
ASKED += [("llava_next", "pixels, tower"), ("qwen2_vl", "budget"), ("internvl", "still")]


@pytest.fixture
def staged(open_session):
    def get(family, name):
        session = open_session(family, "preset=off", f"model.dtype={DTYPES[family]}")
        return under(session, *settings_of(name, family))

    return get


@pytest.mark.parametrize(("family", "name"), ASKED)
def test_batch_equals_single(family, name, staged):
    session = staged(family, name)
    rows = [row for row in ROWS if family in VIDEO or not row.videos]
    rows += [] if family in VIDEO else [Request("Two?", [page(150, 120, 1), noise(150, 120, 2)])]
    together = session.ask_batch(rows, logits=True)
    for row, answer in zip(rows, together, strict=True):
        alone = session.ask(row.prompt, row.images, row.videos, logits=True)
        torch.testing.assert_close(answer.logits, alone.logits, **FLOAT32)
        assert answer.token_ids == alone.token_ids
        assert answer.usage == alone.usage
    assert any(0 < answer.usage.visual.llm_in < answer.usage.visual.unmerged for answer in together)


@pytest.mark.parametrize("name", ["frames", "clip, tower", "pixels", "budget"])
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl", "internvl"])
def test_clips_of_one_shape_do_not_merge_across(family, name, staged):
    session = staged(family, name)
    request = Request("?", videos=[film(6, 128, 96, 1), film(6, 128, 96, 2), film(4, 128, 96, 1)])
    media = [one.pixels for one in session.prepare(request).slots.values()]
    schedules = [session.schedules["video"]] * len(media)
    together = encoder.encode(session.family, media, schedules)
    assert media[0].shape == media[1].shape
    for pixels, found in zip(media, together, strict=True):
        (alone,) = encoder.encode(session.family, [pixels], schedules[:1])
        torch.testing.assert_close(found.embeds, alone.embeds, **FLOAT32)
        assert torch.equal(found.place, alone.place)


@pytest.mark.parametrize("name", ["frames", "clip, tower", "clip, pixels"])
def test_a_pass_of_one_segment_changes_nothing(name, staged):
    """Bounds on memory say how many go through a block at once, not what merges."""
    session = staged("llava_onevision", name)
    whole = session.ask("What?", videos=[film(6, 128, 96, 1)], logits=True)
    family, held = session.family, session.family.chunk_bytes
    try:
        family.chunk_bytes = 1
        parts = session.ask("What?", videos=[film(6, 128, 96, 1)], logits=True)
    finally:
        family.chunk_bytes = held
    torch.testing.assert_close(parts.logits, whole.logits, **FLOAT32)
    assert parts.usage == whole.usage
