"""The stock model is a stock instance on our weights, and answers as our loops do with merging off."""

import pytest
import torch
from transformers import AttentionInterface, GenerationConfig

from illava_cli.bench import stock
from illava_cli.bench.lab import STOCK
from illava_cli.bench.media import Description, Medium, real, synthetic_image, synthetic_video
from illava_cli.bench.variants import PROMPT
from illava_cli.config import MediaOptions
from illava_cli.errors import UsageError
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture
from tests.tolerances import FLOAT32

FAMILIES = tuple(WRITERS)


def given(images=(), videos=()):
    return Medium(Description("given", "image", False), tuple(images), tuple(videos), MediaOptions())


MEDIA = {
    "one tile": lambda family: synthetic_image(1, family),
    "five tiles": lambda family: synthetic_image(5, family),
    "frames": lambda family: synthetic_video(3),
    "unpadded": lambda family: given([picture(150, 100)]),
    "two images": lambda family: given([picture(150, 100), picture(100, 150, 1)]),
    "image and video": lambda family: given([picture(150, 100)], [clip(2, 64, 48)]),
}
VIDEOS = ("frames", "image and video")
ASKED = [(f, medium) for f in FAMILIES for medium in MEDIA if not (f in IMAGES_ONLY and medium in VIDEOS)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stock_instance_on_our_weights(family, lab):
    small = lab(family)
    ours, theirs = small.session.model, small.stock
    assert type(theirs) is type(ours)
    assert not any(hasattr(m, "tap") or "forward" in vars(m) for m in theirs.modules())
    ours_too = {id(m.config) for m in ours.modules() if hasattr(m, "config")}
    assert not any(id(m.config) in ours_too for m in theirs.modules() if hasattr(m, "config"))
    implementations = {m.config._attn_implementation for m in theirs.modules() if hasattr(m, "config")}
    assert implementations == {"sdpa"}
    assert "illava" in AttentionInterface()
    mine = dict(ours.named_parameters(remove_duplicate=False))  # a head may be tied
    for parameter_name, parameter in theirs.named_parameters():
        assert parameter.data_ptr() == mine[parameter_name].data_ptr()
    assert not any(b.is_meta for b in theirs.buffers())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("family", "medium"), ASKED)
@torch.inference_mode()
def test_equals_off(family, medium, batch, lab):
    small = lab(family)
    variants = small.variants(MEDIA[medium](small.family), batch)
    theirs, ours = variants[STOCK], variants["off"]
    media = [ours.medium.fresh(7 + row) for row in range(batch)]
    rows = theirs.read(media)
    ids = theirs.ids(media, rows)
    inputs = stock.model_inputs(small.family, small.stock, rows, ids)
    logits = small.stock(**inputs).logits[:, -1]
    ours.expect(3)
    requests = [{"prompt": PROMPT, "images": images, "videos": videos} for images, videos in media]
    answers = ours.session.ask_batch(requests, logits=True)
    torch.testing.assert_close(torch.stack([a.logits for a in answers]), logits, **FLOAT32)
    unspoken = small.family.unspoken.nonzero().flatten().tolist()  # ours never chooses these
    settings = GenerationConfig(max_new_tokens=3, pad_token_id=0, suppress_tokens=unspoken)
    tokens = small.stock.generate(**inputs, generation_config=settings)[:, len(ids[0]) :]
    assert [list(a.token_ids) for a in answers] == tokens.tolist()


def test_tied_weights_are_shared_once(open_session):
    session = open_session("qwen2_vl", "preset=off", fresh=True)
    tied = session.model.config.tie_word_embeddings
    model = stock.stock_model(session.family)
    same = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert same == tied


def test_videos_of_unlike_length_are_refused(lab):
    small = lab("llava_onevision")
    medium = given([], [clip(2, 64, 48), clip(3, 64, 48)])
    variant = small.variants(medium, 1)[STOCK]
    media = [medium.fresh(0)]
    rows = variant.read(media)
    with pytest.raises(UsageError, match="same number of frames"):
        variant.generate(rows, variant.ids(media, rows), 1)


def test_real_media_are_named_without_their_folder(tmp_path):
    path = tmp_path / "cat.png"
    picture(30, 20).save(path)
    medium = real([str(path)], [], MediaOptions())
    assert medium.description.record() == {"label": "cat.png", "kind": "image", "synthetic": False}
    assert medium.fresh(3) == ([str(path)], [])
