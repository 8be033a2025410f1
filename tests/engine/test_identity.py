"""With merging off, logits and greedy tokens equal the unmodified `transformers` model."""

import pytest
import torch

from tests.builders import WRITERS
from tests.conftest import IMAGES_ONLY, clip, picture
from tests.stock import Stock
from tests.tolerances import FLOAT32, FLOAT64

FAMILIES = tuple(WRITERS)
OFF = ("preset=off", "generation.max_tokens=6")
# the unmodified Qwen2.5-VL in float32 is up to 3e-4 from its own logits in float64
DTYPES = {family: "float64" if family == "qwen2_5_vl" else "float32" for family in FAMILIES}

CASES = {
    "one image with tiles": {"images": [picture(200, 150, 1)]},
    "extreme aspect, wide": {"images": [picture(900, 60, 2)]},
    "extreme aspect, tall": {"images": [picture(50, 400, 3)]},
    "large image that is interpolated": {"images": [picture(500, 480, 4)]},
    "two images": {"images": [picture(120, 90, 5), picture(64, 140, 6)]},
    "video": {"videos": [clip(5, 96, 64, 1)]},
    "image and video": {"images": [picture(150, 150, 7)], "videos": [clip(4, 64, 96, 2)]},
    "two videos": {"videos": [clip(4, 64, 96, 2), clip(4, 64, 96, 3)]},
    "text only": {},
}
ASKED = [(f, case) for f in FAMILIES for case in CASES if not (f in IMAGES_ONLY and "videos" in CASES[case])]


@pytest.fixture(scope="module")
def stock(checkpoints):
    return {family: Stock(checkpoints(family), dtype=getattr(torch, DTYPES[family])) for family in FAMILIES}


def off(family):
    return *OFF, f"model.dtype={DTYPES[family]}"


def message(prompt, images=(), videos=()):
    media = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    return {"role": "user", "content": [*media, {"type": "text", "text": prompt}]}


def frames(videos):
    return [list(v) for v in videos]


@pytest.mark.parametrize(("family", "case"), ASKED)
def test_off_equals_transformers(family, case, stock, open_session):
    media = CASES[case]
    session = open_session(family, *off(family))
    answer = session.ask("What is shown here?", **media, logits=True)
    reference = stock[family]
    text = reference.chat([message("What is shown here?", **media)])
    logits, tokens = reference.answer(
        text, media.get("images", ()), frames(media.get("videos", ())), tokens=6
    )
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]
    assert len(tokens) == 6 or answer.finish_reason == "stop"


PAGES = [picture(200, 150, 1), picture(60, 300, 2), picture(500, 480, 3), picture(80, 80, 4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_of_several_images_tiled_equals_transformers(family, stock, open_session):
    """Its processor tiles only single images; its model, given their tiles, takes any number of them."""
    answer = open_session(family, *off(family), "media.tile_each=true").ask("Which page?", PAGES, logits=True)
    reference = stock[family]
    text = reference.chat([message("Which page?", PAGES)])
    logits, tokens = reference.answer(text, PAGES, groups=[1] * len(PAGES))
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens
    usual = open_session(family, *OFF).ask("Which page?", PAGES)
    assert (answer.usage.visual.patches > usual.usage.visual.patches) == (family == "llava_onevision")
    one = [open_session(family, *OFF).ask("Which page?", [page]).usage.visual.llm_in for page in PAGES]
    assert answer.usage.visual.llm_in == sum(one)


@pytest.mark.parametrize("case", [case for case, media in CASES.items() if "videos" not in media])
def test_windows_equal_transformers_in_float64(case, checkpoints, open_session):
    """Where both get the very same pixels."""
    answer = open_session("qwen2_5_vl", *OFF, "model.dtype=float64").ask("What?", **CASES[case], logits=True)
    reference = Stock(checkpoints("qwen2_5_vl"), dtype=torch.float64)
    text = reference.chat([message("What?", **CASES[case])])
    logits, _ = reference.answer(text, CASES[case].get("images", ()), tokens=1)
    torch.testing.assert_close(answer.logits, logits, **FLOAT64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", ["two images", "image and video"])
def test_the_prepared_model_called_directly_equals_transformers(family, case, stock, open_session):
    """Without our cache the model is the stock one, media of different size in one call as well."""
    media = CASES[case]
    if family in IMAGES_ONLY and "videos" in media:
        pytest.skip("takes images only")
    reference = stock[family]
    text = reference.chat([message("What is shown here?", **media)])
    inputs = reference.inputs(text, media.get("images", ()), frames(media.get("videos", ())))
    model = open_session(family, *off(family)).model
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, reference.model(**inputs).logits, **FLOAT32)


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batch_equals_transformers(family, stock, open_session):
    rows = [
        {"prompt": "One.", "images": [picture(200, 150, 1)]},
        {"prompt": "A much longer question, with no picture at all?"},
        {"prompt": "Which of the two?", "images": [picture(120, 90, 5), picture(64, 140, 6)]},
    ]
    if family not in IMAGES_ONLY:
        rows.append({"prompt": "And then?", "videos": [clip(5, 96, 64, 1)]})
    answers = open_session(family, *off(family)).ask_batch(rows, logits=True)
    for row, answer in zip(rows, answers, strict=True):
        media = {"images": row.get("images", []), "videos": row.get("videos", [])}
        text = stock[family].chat([message(row["prompt"], **media)])
        logits, tokens = stock[family].answer(text, media["images"], frames(media["videos"]), tokens=6)
        torch.testing.assert_close(answer.logits, logits, **FLOAT32)
        assert list(answer.token_ids) == tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_second_turn_equals_transformers(family, stock, open_session):
    """Turn 2 brings a new image; the reference computes the whole conversation anew."""
    session, reference = open_session(family, *off(family)), stock[family]
    images = [picture(200, 150, 1), picture(90, 170, 2)]
    chat = session.chat()
    first = chat.ask("What is this?", images=images[:1])
    second = chat.ask("And this one?", images=images[1:], logits=True)

    turn = message("What is this?", images[:1])
    opening = reference.chat([turn])
    # the model's own tokens stand in the history, whatever text they decode to
    answer = {"role": "assistant", "content": [{"type": "text", "text": "@@"}]}
    tail = reference.chat([turn, answer, message("And this one?", images[1:])]).split("@@")[1]
    before, after = (
        reference.inputs(opening, images[:1])["input_ids"],
        reference.inputs(tail, images[1:])["input_ids"],
    )
    start = int(after[0, 0] == reference.tokenizer.bos_token_id)  # this is not the beginning
    ids = torch.cat([before, torch.tensor([first.token_ids]), after[:, start:]], dim=1)
    whole = reference.inputs(opening + tail, images, groups=[1, 1])
    whole["input_ids"], whole["attention_mask"] = ids, torch.ones_like(ids)
    whole |= reference.types(ids)
    with torch.no_grad():
        logits = reference.model(**whole).logits[0, -1]
        greedy = {"do_sample": False, "suppress_tokens": reference.unspoken()}
        tokens = reference.model.generate(**whole, max_new_tokens=6, **greedy)[0, ids.shape[1] :]
    torch.testing.assert_close(second.logits, logits, **FLOAT32)
    assert list(second.token_ids) == tokens.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_image_matters(family, open_session):
    session = open_session(family, *off(family))
    one = session.ask("What?", images=[picture(200, 150, 1)], logits=True).logits
    other = session.ask("What?", images=[picture(200, 150, 2)], logits=True).logits
    assert (one - other).abs().max() > 0.1


def test_eager_equals_sdpa(open_session):
    for family in FAMILIES:
        question = {"images": [picture(200, 150, 1)], "logits": True}
        sdpa = open_session(family, *off(family)).ask("What?", **question)
        eager = open_session(family, *off(family), "model.attn=eager").ask("What?", **question)
        torch.testing.assert_close(eager.logits, sdpa.logits, **FLOAT32)
