"""The small model that sees photographs: its questions, and that training sees what `illava` shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from real import training
from real.composites import PLACES, TASKS, compose, halves, patch_labels
from real.pictures import KINDS, Stamp
from real.training import Trainer, see

from illava_cli import load
from tests.builders import write_llava_next
from tests.tolerances import FLOAT32

EDGE, PATCH = 48, 8


@pytest.fixture(scope="module")
def cut_outs():
    """Two ovals and more of each kind, of sizes and colours of their own."""
    rng = np.random.default_rng(0)
    found = []
    for kind in KINDS:
        for number in range(5):
            width, height = rng.integers(20, 60, 2)
            colour = (*rng.integers(0, 256, 3).tolist(), 255)
            found.append(Stamp(kind, f"{kind}{number}", Image.new("RGBA", (int(width), int(height)), colour)))
    return found


def asked(name, half, cut_outs, seed):
    rng = np.random.default_rng([7, seed])
    while True:
        picture = compose(rng, half, cut_outs)
        question = TASKS[name][0](picture, rng)
        if question is not None:
            return picture, question


def test_what_is_held_out_is_in_no_picture_to_learn_from(cut_outs):
    learnt, held_out = halves(cut_outs, 25)
    for kind in KINDS:
        assert learnt.stamps[kind]
        assert held_out.stamps[kind]
        assert not set(learnt.stamps[kind]) & set(held_out.stamps[kind])
    assert sorted(learnt.grounds + held_out.grounds) == list(range(25))
    rng = np.random.default_rng(0)
    for half, other in ((learnt, held_out), (held_out, learnt)):
        for _ in range(30):
            picture = compose(rng, half, cut_outs)
            assert picture.ground in half.grounds
            assert not {one.stamp for one in picture.placed} & {
                n for own in other.stamps.values() for n in own
            }


@pytest.mark.parametrize("name", TASKS)
def test_answers_are_among_the_choices_and_none_is_likelier(name, cut_outs):
    half, _ = halves(cut_outs, 8)
    answers = [asked(name, half, cut_outs, seed)[1][1] for seed in range(330)]
    choices = TASKS[name][1]
    assert set(answers) <= set(choices)
    expected = len(answers) / len(choices)
    assert max(answers.count(choice) for choice in choices) < expected + 5 * np.sqrt(expected)


def test_answers_are_what_was_placed(cut_outs):
    half, _ = halves(cut_outs, 8)
    for seed in range(40):
        picture, (prompt, answer) = asked("larger", half, cut_outs, seed)
        named = [one for one in picture.placed if f"the {one.kind}" in prompt]
        assert max(named, key=lambda one: one.area).kind == answer
        picture, (prompt, answer) = asked("existence", half, cut_outs, seed)
        there = any(prompt.endswith(f" {one.kind}?") for one in picture.placed)
        assert there == (answer == "yes")
        picture, (prompt, answer) = asked("at", half, cut_outs, seed)
        (one,) = [one for one in picture.placed if one.kind == answer]
        assert one.quadrant in prompt
        assert one.quadrant in PLACES


def test_labels_are_where_the_cut_outs_are(cut_outs):
    half, _ = halves(cut_outs, 8)
    picture, _ = asked("count", half, cut_outs, 3)
    kinds, places = patch_labels(picture, 14)
    for one in picture.placed:
        patch = int(one.y * 14) * 14 + int(one.x * 14)
        assert list(KINDS)[kinds[patch] - 1] == one.kind
        assert places[patch].tolist() == pytest.approx([one.x, one.y])
    assert np.isnan(places[kinds == 0]).all()


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A small model whose tiles are as large as its pictures."""
    pinpoints = [[EDGE, EDGE], [EDGE, 2 * EDGE], [2 * EDGE, EDGE]]
    write_llava_next(
        tmp_path, vision_config={"image_size": EDGE, "patch_size": PATCH}, image_grid_pinpoints=pinpoints
    )
    monkeypatch.setattr(training, "EDGE", EDGE)
    monkeypatch.setattr(training, "SIDE", EDGE // PATCH)
    options = {"device": "cpu", "dtype": "float32", "attn": "eager"}
    return load(str(tmp_path), preset="off", max_tokens=1, max_tiles=1, **options)


def drawn(picture, cut_outs):
    canvas = Image.new("RGB", (EDGE, EDGE), (10, 90 + 20 * picture.ground, 30))
    for one in picture.placed:
        size = max(4, round(one.size * EDGE))
        stamp = cut_outs[one.stamp].image.convert("RGB").resize((size, size))
        canvas.paste(stamp, (round(one.x * EDGE - size / 2), round(one.y * EDGE - size / 2)))
    return canvas


def test_training_sees_what_illava_shows(session, cut_outs, tmp_path):
    """The logits of an answer's first token, of the first and of the last of several questions."""
    half, _ = halves(cut_outs, 4)
    cases = [asked(name, half, cut_outs, 1) for name in ("larger", "where")]
    images = [drawn(picture, cut_outs) for picture, _ in cases]
    album = see(session, [picture for picture, _ in cases], images, torch.float32)
    trainer = Trainer(session, album, tmp_path)
    session.model.eval()
    others = [("Is there a bird?", "yes"), ("How many things were put here?", "2")]
    with torch.no_grad():
        turns = [[*others, question] for _, question in cases]
        out, named = trainer.forward([0, 1], turns)
        logits = session.model.lm_head(out.last[out.batch.answered])
    begins = [int((out.batch.numbers == number).nonzero()[0]) for number in (2, 5)]
    for image, begin, (_, (prompt, _)) in zip(images, begins, cases, strict=True):
        seen = session.ask(prompt, images=[image], logits=True)
        torch.testing.assert_close(logits[begin], seen.logits.float().view(-1), **FLOAT32)
    decode = session.family.tokenizer.decode
    for row, column, name in named:
        assert name.endswith(decode(out.batch.ids[row, column : column + 1]).strip("?, ")[-1:])


def test_the_loss_falls(session, cut_outs, tmp_path):
    half, _ = halves(cut_outs, 4)
    rng = np.random.default_rng(0)
    pictures = [compose(rng, half, cut_outs) for _ in range(4)]
    album = see(session, pictures, [drawn(picture, cut_outs) for picture in pictures])
    trainer = Trainer(session, album, tmp_path)
    questions = [trainer.questions(number, rng) for number in range(4)]
    losses = []
    for _ in range(12):
        trainer.optimizer.set_rates([5e-3])
        loss, _ = trainer.loss(range(4), questions)
        trainer.optimizer.zero_grad()
        loss.backward()
        trainer.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_run_goes_on_where_it_was(session, cut_outs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)
    half, _ = halves(cut_outs, 4)
    rng = np.random.default_rng(0)
    pictures = [compose(rng, half, cut_outs) for _ in range(4)]
    album = see(session, pictures, [drawn(picture, cut_outs) for picture in pictures])
    Trainer(session, album, tmp_path).run(1e-9)  # one step
    resumed = Trainer(session, album, tmp_path)
    assert resumed.progress.step == 1
    assert (tmp_path / "log.jsonl").read_text().startswith('{"step": 1, ')
