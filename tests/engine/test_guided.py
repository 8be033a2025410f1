"""A guide chooses what the tower is shown: then the answer is that to the chosen part, given by hand."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from illava_cli.config import resolve
from illava_cli.engine import opening
from illava_cli.engine.opening import load
from illava_cli.errors import MediaError, ModelError, UsageError
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture

METHODS = ("clip-crop", "clipseg-crop", "free-video-llm")
FAMILIES = tuple(WRITERS)
PROMPT = "Where is the cup?"
SHORT = "generation.max_tokens=2"


@pytest.fixture
def guided(open_session, guide_folders):
    """A session whose only reduction is a guided method."""

    def get(family, method, keep, *settings):
        guide = f"guide={{model: {guide_folders(method)}, keep: {keep}}}"
        return open_session(family, SHORT, "preset=off", f"method={method}", guide, *settings)

    return get


def media_of(family):
    images = {"one": ([picture(300, 200)], []), "several": ([picture(90, 90, 1), picture(200, 100, 2)], [])}
    return images if family in IMAGES_ONLY else images | {"video": ([], [clip(6, 90, 60)])}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_it_is_the_identity(family, guided, open_session):
    whole = open_session(family, SHORT, "preset=off")
    for media in media_of(family).values():
        theirs = whole.ask(PROMPT, *media, logits=True)
        for method in METHODS:
            ours = guided(family, method, 1.0).ask(PROMPT, *media, logits=True)
            assert torch.equal(ours.logits, theirs.logits)
            assert ours.token_ids == theirs.token_ids


def shown_by_hand(session, image, box, alone):
    """A region as the model would be shown it, and how many tiles it may have."""
    left, top, right, bottom = box
    region = image.crop((left, top, right, bottom))
    if session.family.rope_axes > 1:  # at the whole picture's scale
        edge = session.family.patch * session.family.merge_size
        limit = session.family.image_processor.size["longest_edge"]
        height, width = (max(edge, round(n / edge) * edge) for n in (image.height, image.width))
        if height * width > limit:
            beta = math.sqrt(image.height * image.width / limit)
            height, width = (math.floor(n / beta / edge) * edge for n in (image.height, image.width))
        scale = min(1, height / image.height, width / image.width)
        size = [max(1, round(n * scale)) for n in region.size]
        return region.resize(size, Image.Resampling.BICUBIC), None
    if not alone and session.family.key == "llava_onevision":
        return region, None
    if session.family.key == "gemma4":
        return region, None
    tiles = len(session.family.preprocess_image(image, session.config.media, alone).pixel_values(0, 99))
    return region, max(1, round(tiles * region.width * region.height / (image.width * image.height)))


@contextmanager
def no_larger(session, kind, box, size):
    """Let Gemma 4 show a region no larger than in the whole picture: it has its share of the tokens."""
    left, top, right, bottom = box
    family = session.family
    if family.key != "gemma4":
        yield
        return
    share = max(1, round(family.budget(kind) * (right - left) * (bottom - top) / math.prod(size)))
    cell = family.patch * family.side

    def small(image, options, alone):
        width, height = image.size
        scale = math.sqrt(share * cell**2 / (width * height))
        edges = [max(1, int(scale * edge / cell)) * cell for edge in (width, height)]
        return asked(image.resize(edges, Image.Resampling.BICUBIC), options, alone)

    with pytest.MonkeyPatch.context() as patch:
        if kind == "video":
            patch.setattr(family, "budget", lambda *_: share)
            yield
            return
        asked = family.preprocess_image
        patch.setattr(family.image_processor, "do_resize", False)
        patch.setattr(family, "_resized", lambda size, budget: size)
        patch.setattr(family, "preprocess_image", small)
        yield


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_equals_its_region(family, method, guided, open_session):
    session, image = guided(family, method, 0.4), picture(300, 200)
    answer = session.ask(PROMPT, [image], logits=True)
    (box,) = answer.record()["media"][0]["crops"]
    region, tiles = shown_by_hand(session, image, box, alone=True)
    assert region.width * region.height == pytest.approx(300 * 200 * 0.4, rel=0.02) or tiles is None
    limit = () if tiles is None else (f"media.max_tiles={tiles}",)
    plain = open_session(family, SHORT, "preset=off", *limit)
    with no_larger(plain, "image", box, image.size):
        expected = plain.ask(PROMPT, [region], logits=True)
    assert torch.equal(answer.logits, expected.logits)
    assert answer.usage == expected.usage
    whole = open_session(family, SHORT, "preset=off").ask(PROMPT, [image]).usage.visual
    assert answer.usage.visual.patches < whole.patches


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in IMAGES_ONLY])
def test_a_video_equals_its_regions(family, method, guided, open_session):
    session, frames = guided(family, method, 0.4), clip(7, 112, 84)
    answer = session.ask(PROMPT, videos=[frames], logits=True)
    record = answer.record()["media"][0]
    parts = []
    for index, box in zip(record["frames"], record["crops"], strict=True):
        parts.append(np.asarray(shown_by_hand(session, Image.fromarray(frames[index]), box, alone=False)[0]))
    plain = open_session(family, SHORT, "preset=off")
    with no_larger(plain, "video", record["crops"][0], (112, 84)):
        expected = plain.ask(PROMPT, videos=[np.stack(parts)], logits=True)
    assert torch.equal(answer.logits, expected.logits)
    if method == "free-video-llm":
        share = 0.4 if family == "llava_onevision" else 0.4 / 0.8  # whose smaller frames are no cheaper
        assert len(record["frames"]) == round(7 * share)
        assert record["frames"] == sorted(record["frames"])
        assert answer.usage.visual.patches < session.ask(PROMPT, videos=[frames[:6]]).usage.visual.patches * 2
    else:
        assert record["frames"] == list(range(7))
        assert len({tuple(box) for box in record["crops"]}) == 1  # the camera stands still


def test_a_batch_asks_by_each_own_prompt(guided):
    """Each row as alone: two questions about one picture, a clip, several pictures, and no picture."""
    session = guided("llava_onevision", "free-video-llm", 0.4)
    image = picture(300, 200)
    questions = [
        {"prompt": "Where is the cup?", "images": [image]},
        {"prompt": "What do nine zebras eat?", "images": [image]},
        {"prompt": "What happens in <video>?", "videos": [clip(5, 80, 60)]},
        {"prompt": "Which of <image> and <image>?", "images": [picture(90, 90, 1), image]},
        {"prompt": "Hello."},
    ]
    rows = session.ask_batch(questions)
    alone = [session.ask(**question) for question in questions]
    assert [row.token_ids for row in rows] == [answer.token_ids for answer in alone]
    assert [row.record()["media"] for row in rows] == [answer.record()["media"] for answer in alone]
    crops = [row.record()["media"][0]["crops"] for row in rows[:2]]
    assert crops[0] != crops[1]


def test_a_marker_is_no_word_of_the_prompt(guided):
    session = guided("llava_onevision", "clip-crop", 0.4)
    image = picture(300, 200)
    plain, marked = (session.ask(text, [image]) for text in ("Where is it?", "Where <image> is it?"))
    assert plain.record()["media"] == marked.record()["media"]


def test_a_chat_asks_by_each_turn(guided):
    session = guided("qwen2_vl", "clip-crop", 0.4)
    chat, image = session.chat(), picture(300, 200)
    chat.ask("Where is the cup?", [image])
    assert chat.ask("Sure?").usage.visual.patches == 0
    later = chat.ask("What do nine zebras eat?", [image])
    first = session.ask("What do nine zebras eat?", [image])
    assert later.record()["media"] == first.record()["media"]


def test_merging_off_shows_all(open_session, guide_folders):
    guide = f"guide.model={guide_folders('clip-crop')}"
    session = open_session("llava_onevision", SHORT, "method=clip-crop", guide, fresh=True)
    session = session.with_merging(False)
    answer = session.ask(PROMPT, [picture(300, 200)])
    assert "crops" not in answer.record()["media"][0]


def test_beside_merging(open_session, guide_folders):
    """Set stage by stage, a guide and merges work one after the other."""
    settings = (SHORT, "preset=auto", f"guide={{model: {guide_folders('clip-crop')}, keep: 0.5}}")
    settings += ("vision={layers: [1], r: 9}", "llm={layers: [2], keep: 0.5}")
    v = open_session("llava_onevision", *settings).ask(PROMPT, [picture(300, 200)]).usage.visual
    assert v.patches > v.vision_kept > v.llm_kept > 0


def test_an_empty_prompt_is_refused(guided):
    session = guided("llava_onevision", "clip-crop", 0.4)
    with pytest.raises(UsageError, match="the prompt is empty"):
        session.ask("<image>", [picture(90, 90)])
    assert session.ask("").text is not None  # nothing is to be found in no media


def test_a_picture_too_narrow_for_qwen(guided):
    session = guided("qwen2_vl", "clip-crop", 0.4)
    with pytest.raises(MediaError, match="3000x12 is too narrow"):
        session.ask(PROMPT, [picture(3000, 12)])
    with pytest.raises(MediaError, match="a video of 3000x12 is too narrow"):
        session.ask(PROMPT, videos=[clip(2, 3000, 12)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["vision.method=clip-crop"], r"vision.method: 'clip-crop' is for guide only"),
        (
            ["guide.method=illava"],
            r"'illava' is for vision and input and llm only \(here: clip-crop",
        ),
        (["method=clip-crp"], "did you mean 'clip-crop'"),
        (["guide.method=clipseg"], "did you mean 'clipseg-crop'"),
        (["guide.keep=0", "method=clip-crop"], "more than 0"),
        (["method=clip-crop", "guide.method=clip-crop"], "leave one out"),
    ],
)
def test_refused_schedules(settings, message, open_session):
    with pytest.raises(UsageError, match=message):
        open_session("llava_onevision", *settings, fresh=True)


@pytest.mark.parametrize("name", ["/no/such/folder", "a/b/c", "x" * 400])
def test_a_checkpoint_that_cannot_be_is_refused_before_anything_loads(name, open_session):
    with pytest.raises(UsageError, match="neither a checkpoint directory nor a hub id"):
        open_session("llava_onevision", "method=clip-crop", f"guide.model={name}", fresh=True)


@pytest.fixture
def loads(monkeypatch):
    """The models whose loading was begun; none is loaded."""
    begun = []

    def begin(config, note):
        begun.append(config.model.id)
        raise ModelError("not in this test")

    monkeypatch.setattr(opening, "load_family", begin)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return begun


@pytest.mark.parametrize("model", ["here", "nobody/not-here-yet"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method=clip-crop", "guide.model=nobody/no-such-clip"], r"nobody/no-such-clip .*--set guide.model"),
        (["preset=off", "guide.model=nobody/no-such-clip"], r"nobody/no-such-clip .*--set guide.model"),
        (["method=clipseg-crop", "guide.model=CLIP"], r"takes a 'clipseg' checkpoint .* is a 'clip' one"),
    ],
)
def test_a_guide_is_looked_for_before_the_model_is_loaded(
    model, settings, message, loads, checkpoints, guide_folders
):
    settings = [s.replace("CLIP", guide_folders("clip-crop")) for s in settings]
    name = checkpoints("llava_onevision") if model == "here" else model
    with pytest.raises((ModelError, UsageError), match=message):
        load(config=resolve(name, settings=settings, environ={}))
    assert loads == []


@pytest.mark.parametrize(
    "settings", [["method=illava", "guide.model=nobody/no-such-clip"], ["guide.method=no-such-method"], []]
)
def test_no_guide_is_looked_for_where_none_is_asked(settings, loads, checkpoints):
    with pytest.raises(ModelError, match="not in this test"):
        load(config=resolve(checkpoints("llava_onevision"), settings=settings, environ={}))
    assert len(loads) == 1
