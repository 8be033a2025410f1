"""What a question names, and where the trainer says it is: held against the scenes and the tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny.batches import Builder, Example, patch_labels
from tiny.checkpoint import build_model, build_tokenizer
from tiny.grounding import Grounding
from tiny.labels import PRINTED, sheet_labels
from tiny.referents import evidence, referents
from tiny.sight import sight

from illava_cli.evals.world import TASKS
from illava_cli.evals.world.scene import draw_scene
from illava_cli.evals.world.sheet import print_sheet
from illava_cli.evals.world.task import Album, Clip, Still
from tests.evals.staging import SMALL, staged


@pytest.fixture(scope="module")
def builder():
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, 0, SMALL, SMALL).eval()
    model.set_attn_implementation("eager")  # as the trainer does: the losses read attentions
    return Builder(model, tokenizer)


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
        for place in filter(None, (*named, evidence(stage, answer))):
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
    turn = out.turns[-1]
    ids = builder.sequence(Example(stage, [*others, (prompt, answer)]), "image", 7, True).ids
    fewer = len(ids) - out.hidden[0].shape[1]  # it is laid out with 7 visual tokens here
    for one, column in zip(turn.referents, turn.columns, strict=True):
        token = builder.tokenizer.id_to_token(ids[column + fewer]).removeprefix("Ġ")
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
        parts = a.sight.part
        media = slice(a.media_start, a.media_start + len(parts))
        differs = (a.hidden[0] != b.hidden[0]).any(-1)[0, media]
        assert set(parts[differs].tolist()) == {number}
        assert differs.sum() >= (parts == number).sum() - 1  # all but a newline


@pytest.mark.parametrize(
    ("task", "square"),
    [
        ("colour", False),
        ("colour", True),
        ("document-cell", False),
        ("multi-image", False),
        ("video-first", False),
    ],
)
def test_visual_tokens_are_where_the_model_packs_them(builder, task, square):
    """Features that are their patches' own places come out as the tokens' places."""
    stage, question = staged(task)
    width = builder.model.config.text_config.hidden_size
    middles = (torch.arange(12) + 0.5) / 12
    own = torch.zeros(12, 12, width)
    own[..., 0], own[..., 1], own[..., 2] = middles, middles[:, None], 1
    own = own.flatten(0, 1)

    class Coordinates(Builder):
        def features(self, pixels):
            return own.expand(len(pixels), -1, -1).clone()

    told = Coordinates(builder.model, builder.tokenizer)
    projector, builder.model.model.multi_modal_projector = (
        builder.model.model.multi_modal_projector,
        torch.nn.Identity(),
    )
    try:
        with torch.no_grad():
            _, [packed], _ = told.media([Example(stage, [question], square)], frozen=True)
    finally:
        builder.model.model.multi_modal_projector = projector
    seen = sight(stage, square)
    assert len(packed) == len(seen.places)
    known = ~seen.places.isnan().any(-1)
    if task == "document-cell":  # 2 x 2 tiles, each of which knows its own place only
        assert known.sum() == 24 * 24
        assert packed[known, 2].eq(1).all()
        torch.testing.assert_close((2 * seen.places[known]) % 1, packed[known, :2])
    else:
        assert packed[known, 2].sub(1).abs().max() < 1e-5
        torch.testing.assert_close(seen.places[known], packed[known, :2])
        assert packed[~known, 2].sub(1).abs().min() > 1e-3  # newlines


@pytest.mark.parametrize("task", ["document-cell", "document-bar", "reading"])
def test_a_head_that_looks_at_the_answer_loses_less(builder, task):
    stage, question = staged(task)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])])
    heads = Grounding(64)
    (turn,) = out.turns
    shown = out.media_start + out.sight.near(turn.evidence).nonzero().flatten()
    looking = tuple(layer.clone() for layer in out.attentions)
    looking[-1][turn.row, 0, turn.begin] = 0
    looking[-1][turn.row, 0, turn.begin, shown] = 1 / len(shown)
    assert heads(replace(out, attentions=looking))[0] < heads(out)[0] - 1


@pytest.mark.parametrize("task", ["relation", "multi-image", "video-blinks", "document-cell", "reading"])
def test_the_loss_falls_as_the_readers_learn(builder, task):
    torch.manual_seed(0)
    stage, question = staged(task)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])])
    heads = Grounding(64)
    optimizer = torch.optim.Adam(heads.parameters(), 0.01)
    losses = []
    for _ in range(80):
        loss, _ = heads(out)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_labels_follow_the_tower(builder):
    """One row of labels for each tile that the tower sees, and none of a picture that was shrunk."""
    for task, tiles in (("colour", 1), ("multi-image", 3), ("video-first", 8), ("document-bar", 5)):
        stage, question = staged(task)
        example = Example(stage, [question])
        with torch.no_grad():
            out = builder.forward([example])
        labels = patch_labels([example])
        assert labels["word"].shape == out.tower.shape[:2]
        assert out.tower.shape[0] == tiles
    assert (labels["word"][0] < 0).all()
    assert isinstance(stage, Still)
    assert not isinstance(stage, Clip)
