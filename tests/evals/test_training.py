"""The trainer of the embedded model: it learns, goes on where it stopped, and sees what `illava` shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny.batches import Builder, Example, pixel_values, tiles
from tiny.checkpoint import PATCH, build_model, build_tokenizer, export, load_model
from tiny.clock import Clock
from tiny.labels import CHARACTERS, dense_labels
from tiny.measure import accuracy, right_answers
from tiny.recipe import KINDS, batch
from tiny.start import start_tower
from tiny.trainer import Plan, Trainer

from illava_cli import load
from illava_cli.evals.world.scene import COLOURS, WORDS, draw_scene
from illava_cli.evals.world.task import Album, media
from tests.evals.staging import SMALL, staged
from tests.tolerances import FLOAT32


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def small_model(tokenizer):
    return build_model(tokenizer, 0, SMALL, SMALL)


def test_every_word_of_the_world_is_one_token(tokenizer):
    for word in (*COLOURS, *WORDS, "circle", "top", "yes", "no", "first", "left", "up", "Which", "Where"):
        assert len(tokenizer.encode(word).ids) == 1
    assert len(tokenizer.encode(" star").ids) == 1
    assert len(tokenizer.encode("47").ids) == 2


@pytest.mark.parametrize("task", ["colour", "tiles", "document-cell", "multi-image", "video-direction"])
def test_training_sees_what_illava_shows(tokenizer, tmp_path, task):
    """The logits of an answer's first token, from the trainer's layout and from the program."""
    export(small_model(tokenizer), tokenizer, tmp_path)
    session = load(str(tmp_path), preset="off", device="cpu", dtype="float32", max_tokens=1)
    builder = Builder(session.model, tokenizer)
    for seed in range(3):
        stage, (prompt, answer) = staged(task, seed)
        with torch.no_grad():
            out = builder.forward([Example(stage, [(prompt, answer)])])
        seen = session.ask(prompt, **media(stage), logits=True)
        torch.testing.assert_close(out.logits[0], seen.logits.float().view(-1), **FLOAT32)


def test_turns_apart_are_first_turns(tokenizer):
    model = small_model(tokenizer).eval()
    builder = Builder(model, tokenizer)
    stage, question = staged("colour")
    others = [("How many shapes are there?", "3"), ("Is there a red star?", "no")]
    with torch.no_grad():
        alone = builder.forward([Example(stage, [question])])
        third = builder.forward([Example(stage, [*others, question])])
        chat = builder.forward([Example(stage, [*others, question])], apart=False)
    count = len(alone.logits)
    torch.testing.assert_close(alone.logits, third.logits[-count:], **FLOAT32)
    assert not torch.allclose(alone.logits, chat.logits[-count:], atol=10 * FLOAT32["atol"])
    assert third.numbers.tolist()[-1] == 2


def test_a_chat_is_laid_out_as_the_template_does(tokenizer, tmp_path):
    export(small_model(tokenizer), tokenizer, tmp_path)
    session = load(str(tmp_path), preset="off", device="cpu")
    stage, _ = staged("colour")
    turns = [("What colour is the star?", "red"), ("How many shapes are there?", "3")]
    messages = []
    for index, (prompt, answer) in enumerate(turns):
        content = [*([{"type": "image"}] if index == 0 else []), {"type": "text", "text": prompt}]
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    text = session.family.tokenizer.apply_chat_template(messages, tokenize=False)
    text = text.replace(
        "assistant \n", "assistant\n"
    )  # the template writes a past answer's role with a space
    ids = Builder(session.model, tokenizer).sequence(Example(stage, turns), "image", 1, apart=False).ids
    assert ids == session.family.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("task", ["tiles", "document-button"])
def test_pixels_are_the_processors(tokenizer, tmp_path, task):
    export(small_model(tokenizer), tokenizer, tmp_path)
    family = load(str(tmp_path), preset="off", device="cpu").family
    stage, _ = staged(task)
    [image] = media(stage)["images"]
    seen = family.image_processor([image], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(tiles(stage.scene), seen.float(), atol=1e-5, rtol=0)


def test_dense_labels_say_what_lies_under_a_patch():
    scene = draw_scene(np.random.default_rng(1), 3, texts=("CAT",))
    labels = dense_labels(scene, PATCH)
    for thing in scene.things:
        row, column = int(thing.y // PATCH), int(thing.x // PATCH)
        assert list(COLOURS)[labels["colour"][row, column] - 1] == thing.colour
        assert np.allclose(labels["centre"][row, column] * 96, (thing.x, thing.y))
    read = {CHARACTERS[n - 1] for n in labels["character"].ravel() if n}
    assert read <= set("CAT")
    assert set(labels["word"].ravel()) == {0, 1 + WORDS.index("CAT")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_has_the_same_examples_each_time(kind):
    first, again, other = batch(kind, 0, 3, 5), batch(kind, 0, 3, 5), batch(kind, 0, 4, 5)
    assert first == again != other
    assert len(first) == KINDS[kind].size
    if isinstance(first[0].stage, Album):
        assert len({len(e.stage.scenes) for e in first}) == 1


def test_the_loss_falls_in_every_stage(tokenizer, tmp_path):
    torch.manual_seed(0)
    model = small_model(tokenizer)
    start_tower(model.model.vision_tower, pixel_values)
    trainer = Trainer(model, tokenizer, tmp_path, Plan(seconds=1e6, warmup=4))
    for stage, steps in (("tower", 30), ("decoder", 24), ("joint", 16)):
        trainer.progress.stage = stage
        losses = [trainer.step(i) for i in range(steps)]
        assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05, stage


def test_a_run_goes_on_where_it_was(tokenizer, tmp_path):
    plan = Plan(seconds=1e6, warmup=2)
    whole = Trainer(small_model(tokenizer), tokenizer, tmp_path, plan)
    for i in range(2):
        whole.step(i)
    whole.save()
    resumed = Trainer(small_model(tokenizer), tokenizer, tmp_path, plan)
    assert resumed.progress == whole.progress
    assert resumed.step(2) == pytest.approx(whole.step(2), rel=1e-3)


def test_a_run_begins_with_a_checkpoint(tokenizer, tmp_path):
    """With its weights and tokenizer, and with the stage in which all parts learn."""
    model = small_model(tokenizer)
    export(model, tokenizer, tmp_path / "checkpoint")
    again, words = load_model(tmp_path / "checkpoint")
    assert words.encode("Where is the red star?").ids == tokenizer.encode("Where is the red star?").ids
    for (name, theirs), ours in zip(model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(theirs.to(torch.bfloat16).float(), ours, msg=name)
    trainer = Trainer(again, words, tmp_path, Plan(seconds=1e6, first="joint"))
    trainer.step(0)
    assert trainer.progress.stage == "joint"


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_what_questions_name_is_learnt_only_where_it_is_asked_for(tokenizer, tmp_path, weight):
    trainer = Trainer(small_model(tokenizer), tokenizer, tmp_path, Plan(1e6, grounding=weight, first="joint"))
    trainer.step(0)
    learnt = [value.grad is not None for value in trainer.heads["grounding"].parameters()]
    assert any(learnt) == (weight > 0)


def test_stop_ends_a_run_and_the_log_says_how_it_went(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("tiny.trainer.ANNEAL", 0.5)
    monkeypatch.setattr("tiny.trainer.accuracy", lambda *_: {"colour": 0.5})
    trainer = Trainer(small_model(tokenizer), tokenizer, tmp_path, Plan(seconds=1e6))
    trainer.progress.stage = "joint"
    (tmp_path / "stop").touch()
    trainer.run()
    assert not (tmp_path / "stop").exists()
    assert (tmp_path / "state.pt").exists()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["colour"] == 0.5


def test_an_interrupted_step_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tiny.clock.time.perf_counter", lambda: now[0])
    clock = Clock()
    for took in (1.0, 1.0, 1.0, 500.0, 1.0):
        clock.start()
        now[0] += took
        clock.stop()
    assert clock.spent == 5.0


def test_right_answers_are_whole_answers(tokenizer):
    builder = Builder(small_model(tokenizer).eval(), tokenizer)
    stage, (prompt, _) = staged("position")
    with torch.no_grad():
        out = builder.forward([Example(stage, [(prompt, "top left"), (prompt, "top left")])])
    assert out.numbers.tolist() == [0, 0, 0, 1, 1, 1]  # two words and the end
    assert right_answers(builder, [Example(stage, [(prompt, "top left")] * 2)]) in ([True] * 2, [False] * 2)
    assert set(accuracy(builder, 2, ("colour", "tiles"))) == {"colour", "tiles"}
