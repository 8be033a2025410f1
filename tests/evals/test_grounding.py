"""What a question names, and where the trainer says it is: held against the scenes and the tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.batches import SQUARE, Builder, Example
from tiny.checkpoint import ARCHITECTURES
from tiny.grounding import Grounding
from tiny.labels import PATCH, PRINTED, sheet_labels, stage_labels
from tiny.referents import evidence, referents
from tiny.sight import middles

from illava_cli.config.options import MediaOptions
from illava_cli.evals.world import TASKS
from illava_cli.evals.world.scene import draw_scene
from illava_cli.evals.world.sheet import print_sheet
from illava_cli.evals.world.task import Album, Clip, Still
from tests.evals.staging import losses_while_learning, small_session, staged


@pytest.fixture(scope="module", params=ARCHITECTURES)
def builder(request):
    return Builder(small_session(request.param))


def test_a_relation_names_two_things_in_its_order():
    for seed in range(20):
        stage, (prompt, answer) = staged("relation", seed)
        first, second = referents(stage, prompt)
        axis = 0 if "left" in prompt or "right" in prompt else 1
        less = first.first[axis] < second.first[axis]
        assert (less == ("left" in prompt or "above" in prompt)) == (answer == "yes")


def test_what_is_not_there_has_no_place():
    for seed in range(20):
        stage, (prompt, answer) = staged("existence", seed)
        (found,) = referents(stage, prompt)
        assert found.there == (answer == "yes")
        assert (found.first is None) == (answer == "no")


def test_a_quadrant_names_the_thing_in_it():
    for seed in range(20):
        stage, (prompt, answer) = staged("what-is-at", seed)
        (found,) = referents(stage, prompt)
        assert " ".join(found.name) == answer


def test_an_album_says_in_which_image():
    for seed in range(20):
        stage, (prompt, answer) = staged("multi-image", seed)
        (found,) = referents(stage, prompt)
        assert ("first", "second", "third")[found.image] == answer


def test_a_blink_is_a_gap_in_what_is_seen():
    for seed in range(20):
        stage, (prompt, answer) = staged("video-blinks", seed)
        (found,) = referents(stage, prompt)
        assert sum(not seen for seen in found.seen) == int(answer)


def test_a_motion_is_from_the_first_place_to_the_last():
    for seed in range(20):
        stage, (prompt, answer) = staged("video-direction", seed)
        (found,) = referents(stage, prompt)
        across, down = (b - a for a, b in zip(found.first, found.last, strict=True))
        way = (("left", "right")[across > 0]) if abs(across) > abs(down) else ("up", "down")[down > 0]
        assert way == answer


@pytest.mark.parametrize("task", [name for name in TASKS if name.startswith("document")])
def test_the_text_that_is_the_answer_lies_on_ink(task):
    """The place of an answer, and of what a question names, is where the sheet's pixels are no paper."""
    checked = 0
    for seed in range(12):
        stage, (prompt, answer) = staged(task, seed)
        pixels = np.asarray(print_sheet(stage.scene), dtype=int)
        named = [one.first for one in referents(stage, prompt) if one.first]
        for place in filter(None, (*named, evidence(stage, prompt, answer))):
            x, y = round(place[0] * stage.scene.width), round(place[1] * stage.scene.height)
            near = pixels[max(0, y - 4) : y + 5, max(0, x - 6) : x + 7].reshape(-1, 3)
            assert np.ptp(near, axis=0).max() > 60
            checked += 1
    assert checked > 5


def test_words_of_a_document_are_labelled_where_they_stand():
    stage, _ = staged("document-cell")
    labels = sheet_labels(stage.scene, 8)
    said = {PRINTED[n - 1] for n in labels["word"].ravel() if n > 0}
    table = stage.scene.content
    assert said == {*table.rows, *table.columns}
    pairs = {
        (t - 1, o - 1) for t, o in zip(labels["tens"].ravel(), labels["ones"].ravel(), strict=True) if t > 0
    }
    assert {f"{t}{o}" for t, o in pairs} == {cell for row in table.cells for cell in row}


@pytest.mark.parametrize("task", ["relation", "multi-image", "video-blinks", "document-cell"])
def test_names_end_at_their_token(builder, task):
    stage, (prompt, answer) = staged(task)
    others = [("How many shapes are there?", "3")]
    with torch.no_grad():
        out = builder.forward([Example(stage, [*others, (prompt, answer)])])
    turn, ids = out.turns[-1], out.shown.rows[0].ids
    for one, column in zip(turn.referents, turn.columns, strict=True):
        token = builder.family.tokenizer.decode([ids[column]]).strip()
        assert prompt[: one.end].endswith(token)


@pytest.mark.parametrize("task", ["multi-image", "video-blinks"])
def test_each_visual_token_knows_its_image_or_frame(builder, task):
    """Another picture in one place changes the embeddings of the tokens that are said to be its."""
    stage, question = staged(task)
    pictures = stage.scenes if isinstance(stage, Album) else stage.frames
    for number in range(len(pictures)):
        other = draw_scene(np.random.default_rng(9), 4)
        changed = tuple(other if i == number else one for i, one in enumerate(pictures))
        twin = Album(changed) if isinstance(stage, Album) else replace(stage, frames=changed)
        with torch.no_grad():
            a, b = (builder.forward([Example(one, [question])]) for one in (stage, twin))
        part = a.sight.part
        differs = (a.shown.hidden[0] != b.shown.hidden[0]).any(-1)[0, : len(part)]
        assert set(part[differs].tolist()) == {number // a.sight.frames}
        assert differs.sum() == (part == number // a.sight.frames).sum()


@pytest.mark.parametrize("task", ["colour", "tiles", "multi-image", "video-first", "document-bar"])
def test_labels_are_of_what_a_token_shows(builder, task):
    stage, question = staged(task)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])])
    seen = out.shown.seen
    labels = builder.labels([Example(stage, [question])], out, builder.token)
    assert labels["word"].shape == seen.projected.shape[:2]
    for number, (_, slot, segment) in enumerate(seen.segments):
        view = out.media[0][slot].form.views()[segment]
        if len(seen.segments) > 2 and segment == 0 and builder.family.has_tiles and isinstance(stage, Still):
            assert (labels["word"][number] < 0).all()  # shrunk: nothing is known
            continue
        if isinstance(stage, Clip):
            scene = stage.frames[view.frame]
        else:
            scene = stage.scenes[slot.index] if isinstance(stage, Album) else stage.scene
        whole = stage_labels(scene, builder.token)
        for index, (across, down) in enumerate(middles(view).flatten(0, 1)):
            row, column = (int(x / builder.token) for x in (down * scene.height, across * scene.width))
            for name in ("colour", "shape", "word", "character"):
                assert labels[name][number, index] == whole[name][row, column]


def test_patches_are_labelled_in_the_order_in_which_the_tower_has_them(builder):
    """Each patch of the picture has a brightness of its own."""
    own = np.arange(144).reshape(12, 12)
    picture = Image.fromarray(np.kron(own, np.ones((8, 8))).astype(np.uint8)).convert("RGB")
    pixels = builder.family.preprocess_image(
        picture, SQUARE if builder.family.has_tiles else MediaOptions(), True
    )
    values = (pixels.pixel_values(0, 1) + 1) * 127.5
    if builder.family.has_tiles:
        values = values.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    ordered = builder.ordered({"own": own}, PATCH)["own"]
    assert ordered.tolist() == values.mean(-1).round().long().tolist()


@pytest.mark.parametrize("task", ["document-cell", "document-bar", "reading"])
def test_a_head_that_looks_at_the_answer_loses_less(builder, task):
    stage, question = staged(task)
    heads = Grounding(builder.model.config.text_config)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])], watched=heads.watched)
    (turn,), layer = out.turns, heads.watched[1]
    shown = out.sight.near(turn.evidence).nonzero().flatten()
    looking = out.shown.looks[layer].clone()
    looking[turn.row, turn.begin] = 0
    looking[turn.row, turn.begin, shown] = 1 / len(shown)
    better = replace(out, shown=replace(out.shown, looks=out.shown.looks | {layer: looking}))
    assert heads(better)[0] < heads(out)[0] - 1


@pytest.mark.parametrize("task", ["relation", "multi-image", "video-blinks", "document-cell", "reading"])
def test_the_loss_falls_as_the_readers_learn(builder, task):
    torch.manual_seed(0)
    stage, question = staged(task)
    heads = Grounding(builder.model.config.text_config)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])], watched=heads.watched)
    first, last = losses_while_learning(heads, out, 80)
    assert last < 0.7 * first
