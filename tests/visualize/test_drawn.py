"""What is drawn covers exactly the pixels that it stands for, in the payload and in PNG files."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from illava_cli.engine.media import sampling
from illava_cli.visualize.page import render
from illava_cli.visualize.payload import LayerSeconds, boxes, drawn, payload
from illava_cli.visualize.pictures import read_media
from illava_cli.visualize.places import cell_boxes, in_picture
from illava_cli.visualize.png import Canvas, write_pngs
from illava_cli.visualize.sheet import VEIL, mask
from illava_cli.visualize.stages import PADDING
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES
from tests.visualize.media import bright

ANSWERS = {
    "merged": {"text": "x", "usage": {}, "timings": {}, "memory": {}},
    "plain": None,
    "agreement": None,
}
# schedule, sizes of images, frames of a video, and the cell that is bright: its medium, view and number
CASES = {
    "tiles and padding": ("llava faithful, original", [(168, 112)], 0, (0, 1, 14)),
    "overview": ("llava grid, paper", [(168, 168)], 0, (0, 0, 14)),
    "one of several, padded": ("llava faithful, original", [(84, 56), (56, 84)], 0, (1, 0, 13)),
    "video": ("llava grid, paper", [], 3, (0, 2, 14)),
    "next": ("next faithful, original", [(168, 112)], 0, (0, 4, 7)),
    "qwen, odd": ("qwen, paper", [(84, 140)], 0, (0, 0, 7)),
    "qwen, video": ("qwen, paper", [], 4, (0, 1, 4)),
    "qwen2.5, odd": ("qwen2.5, windows", [(140, 84)], 0, (0, 0, 11)),
    "gemma4, odd": ("gemma4, paper", [(432, 336)], 0, (0, 0, 31)),
    "internvl": ("internvl, original", [(168, 168)], 0, (0, 2, 4)),
    "qwen3, odd": ("qwen3, early", [(160, 96)], 0, (0, 0, 7)),
    "qwen3.5, odd": ("qwen3.5, paper", [(160, 96)], 0, (0, 0, 7)),
}


def ask(session, images, videos, **options):
    answer = session.ask("What is it?", images, videos, trace="attention", **options)
    media = read_media(images, videos, answer.trace["views"], sampling(session.config.media))
    return answer, drawn(answer.trace, media)


def original_box(answer, case):
    """The cell's box in pixels of the medium as it was given."""
    _, sizes, _, (medium, view, number) = CASES[case]
    own = answer.trace["views"][medium][view]
    width, height = sizes[medium] if sizes else (84, 84)
    found = in_picture(own, cell_boxes(own)[number : number + 1])[0] * [width, height, width, height]
    assert found == pytest.approx(found.round(), abs=1e-6)
    return found.round().astype(int).tolist()


@pytest.mark.parametrize("case", CASES)
def test_the_mask_of_a_token_is_the_bright_object(open_session, case):
    schedule, sizes, frames, (medium, view, number) = CASES[case]
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    images = [bright(*size) for size in sizes]
    videos = [np.zeros((frames, 84, 84, 3), np.uint8)] if frames else []
    answer, blank = ask(session, images, videos)
    cell = np.flatnonzero((blank.cells.medium == medium) & (blank.cells.view == view))[number]
    left, top, width, height = original_box(answer, case)
    if frames:
        frame = answer.trace["views"][medium][view].frame
        videos[0][frame, top : top + height, left : left + width] = 255
    else:
        images[medium] = bright(*sizes[medium], (left, top, width, height))
    _, shown = ask(session, images, videos)
    image = shown.media[medium].pictures[view].image
    object_seen = np.asarray(image)[..., 0] > 127
    assert object_seen.sum() > 100
    token = shown.stages[0].tokens.slot[cell]
    members = np.flatnonzero(shown.stages[0].tokens.slot == token)
    assert (mask(image.size, boxes(shown)[members]) == object_seen).all()
    # and so in what the page gets
    page = payload(shown, prompt="?", model="m", preset="p", config={}, answers=ANSWERS)
    src = page["media"][medium]["views"][view]["src"]
    sent = Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))
    x, y, w, h = page["patches"]["box"][cell]
    assert ((np.asarray(sent)[..., 0] > 127) == mask(sent.size, np.array([[x, y, w, h]]))).all()


@pytest.mark.parametrize("case", ["tiles and padding", "video", "qwen2.5, odd", "qwen3, odd"])
def test_what_is_left_shows_and_nothing_else(open_session, case):
    schedule, sizes, frames, _ = CASES[case]
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    _, shown = ask(session, [picture(*size) for size in sizes], [clip(frames, 84, 84)] if frames else [])
    canvas = Canvas(shown)
    for number in range(len(shown.stages)):
        left = canvas.kept[number]
        for medium, view in canvas._rows():
            own = canvas._cells(medium, view)
            before = shown.media[medium].pictures[view].image
            after = canvas.at_stage(medium, view, number)
            covered = mask(before.size, canvas.boxes[own])
            same = (np.asarray(before) == np.asarray(after)).all(2)
            visible = mask(before.size, canvas.boxes[own][left[own]])
            assert same[visible | ~covered].all()
            greyish = np.ptp(np.asarray(after)[covered & ~visible].astype(int), axis=1)
            assert (greyish <= max(VEIL) - min(VEIL) + 12).all()


def test_padding_lies_beyond_the_picture(open_session):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings)
    _, shown = ask(session, [picture(168, 112)], [])
    found = boxes(shown)
    heights = np.array([p.image.height for p in shown.media[0].pictures])[shown.cells.view]
    beyond = (found[:, 1] + found[:, 3] <= 1e-6) | (found[:, 1] >= heights - 1e-6)
    assert (beyond == shown.cells.padding).all()
    assert beyond.sum() == 4 * 12
    assert (shown.stages[-1].tokens.slot[beyond] == PADDING).all()


def test_cells_narrower_than_a_pixel_leave_no_gaps(open_session):
    """Of a picture of one pixel every cell is a part."""
    family, settings = SCHEDULES["llava faithful, original"]
    _, shown = ask(open_session(family, *settings), [picture(1, 1)], [])
    page = payload(shown, prompt="?", model="m", preset="p", config={}, answers=ANSWERS)
    left, _, width, _ = np.array(page["patches"]["box"][:6]).T
    assert left[1:] == pytest.approx(left[:-1] + width[:-1], abs=1e-9)


@pytest.mark.parametrize("case", ["tiles and padding", "video", "qwen, video"])
def test_the_payload_is_whole_and_json(open_session, case):
    schedule, sizes, frames, _ = CASES[case]
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    answer, shown = ask(session, [picture(*size) for size in sizes], [clip(frames, 84, 84)] if frames else [])
    layers = LayerSeconds([1.0] * session.family.tower_layers, [2.0] * 6)
    page = payload(shown, prompt="?", model="m", preset="p", config={"a": 1}, answers=ANSWERS, seconds=layers)
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    patches = page["patches"]
    cells = len(patches["medium"])
    assert cells * session.family.patches_per_token == answer.usage.visual.patches
    assert {len(patches[name]) for name in ("medium", "view", "box", "padding")} == {cells}
    for stage in page["stages"]:
        assert len(stage["slot"]) == len(stage["weight"]) == cells
        assert len(stage["anchor"]) == len(stage["attention"]) == stage["tokens"]
    for where, total in (("tower", len(layers.tower)), ("llm", 2.0 * len(layers.llm))):
        taken = [s["seconds"] for s in page["stages"] if (s["where"] == "tower") == (where == "tower")]
        assert sum(taken) == pytest.approx(total)
    assert all(len(heat["values"]) == cells for heat in page["heat"])
    assert page["shares"]["layers"] == list(range(6))
    assert render(page).startswith("<!")


def test_a_long_video_is_sampled_and_says_so(open_session, monkeypatch):
    monkeypatch.setattr("illava_cli.visualize.pictures.MOST_FRAMES", 3)
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings)
    answer, shown = ask(session, [], [clip(9, 60, 60)])
    assert [p.index for p in shown.media[0].pictures] == [0, 4, 8]
    assert "3 of 9 frames are shown" in shown.notes[0]
    elsewhere = 0
    for stage in shown.stages:
        tokens = stage.tokens
        assert len(tokens.slot) == 3 * 36
        assert sum(tokens.counts().values()) == 3 * 36
        anchored = tokens.anchor >= 0
        assert (tokens.slot[tokens.anchor[anchored]] == np.flatnonzero(anchored)).all()
        elsewhere += (~anchored).sum()
    assert elsewhere  # a token of the LLM gathers from all frames
    assert shown.stages[-1].tokens.total == answer.usage.visual.llm_kept
    page = payload(shown, prompt="?", model="m", preset="p", config={}, answers=ANSWERS)
    assert len(page["media"][0]["views"]) == 3
    assert max(page["patches"]["view"]) == 2


def test_of_many_layers_some_have_heat_maps(open_session, monkeypatch):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings)
    monkeypatch.setattr("illava_cli.visualize.payload.HEAT_VALUES", 36 * 5)
    _, shown = ask(session, [], [clip(1, 60, 60)])
    layers = {"tower": [0, 3, 6], "llm": [0, 3]}
    assert [(m.where, m.layer) for m in shown.heat] == [(w, n) for w, own in layers.items() for n in own]
    assert "every 3rd layer" in shown.notes[-1]


def test_png_files(open_session, tmp_path):
    family, settings = SCHEDULES["llava grid, paper"]
    session = open_session(family, *settings)
    _, shown = ask(session, [picture(84, 84)], [clip(3, 84, 84)])
    written = write_pngs(shown, tmp_path)
    names = {path.name for path in written}
    assert names >= {
        "tokens.png",
        "attention-tower.png",
        "attention-llm.png",
        "frames-2.png",
        "frames-2.webp",
    }
    for path in written:
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == (3 if path.suffix == ".webp" else 1)
            assert np.asarray(image.convert("RGB")).std() > 10
