"""The trainer of the embedded models: it learns, goes on where it stopped, and sees what `illava` shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny.batches import Builder, Example
from tiny.checkpoint import ARCHITECTURES
from tiny.clock import Clock
from tiny.labels import CHARACTERS, PATCH, dense_labels
from tiny.measure import accuracy, right_answers
from tiny.recipe import KINDS, batch
from tiny.trainer import Plan, Trainer

from illava_cli import load
from illava_cli.evals.world.scene import COLOURS, WORDS, draw_scene
from illava_cli.evals.world.task import Album, media
from tests.evals.staging import small_session, staged
from tests.tolerances import FLOAT32


def test_every_word_of_the_world_is_one_token():
    tokenizer = ARCHITECTURES["tiny"].tokenizer()
    for word in (*COLOURS, *WORDS, "circle", "top", "yes", "no", "first", "left", "up", "Which", "Where"):
        assert len(tokenizer.encode(word).ids) == 1
    assert len(tokenizer.encode(" star").ids) == 1
    assert len(tokenizer.encode("47").ids) == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("task", ["colour", "tiles", "document-cell", "multi-image", "video-direction"])
def test_training_sees_what_illava_shows(name, task):
    """The logits of an answer's first token, from the trainer's layout and from the program."""
    session = small_session(name, max_tokens=1)
    builder = Builder(session)
    for seed in range(3):
        stage, (prompt, answer) = staged(task, seed)
        with torch.no_grad():
            out = builder.forward([Example(stage, [(prompt, answer)])])
        seen = session.ask(prompt, **media(stage), logits=True).logits.float().view(-1)
        known = torch.isfinite(seen)
        torch.testing.assert_close(out.logits[0, : len(seen)][known], seen[known], **FLOAT32)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_turns_apart_are_first_turns(name):
    builder = Builder(small_session(name))
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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_chat_is_laid_out_as_the_program_does(name):
    session = small_session(name, max_tokens=1)
    stage, _ = staged("colour")
    turns = [("What colour is the star?", "red"), ("How many shapes are there?", "3")]
    with torch.no_grad():
        out = Builder(session).forward([Example(stage, turns)], apart=False)
    chat = session.chat()
    chat.recall(turns[0][0], answer=turns[0][1], **media(stage))
    seen = chat.ask(turns[1][0], logits=True).logits.float().view(-1)
    known = torch.isfinite(seen)
    begin = int((out.numbers == 1).nonzero()[0])
    torch.testing.assert_close(out.logits[begin, : len(seen)][known], seen[known], **FLOAT32)


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


@torch.no_grad()
def same_steps(trainer, begun):
    """The mean loss of a few steps, whatever the weights are."""
    lose = trainer.tower_loss if trainer.progress.stage == "tower" else trainer.answer_loss
    return np.mean([lose(begun + number).item() for number in range(4)])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_falls_in_every_stage(name, tmp_path):
    torch.manual_seed(0)
    trainer = Trainer(small_session(name), tmp_path, Plan(seconds=1e6, warmup=4))
    for stage, steps in (("tower", 30), ("decoder", 24), ("joint", 16)):
        trainer.progress.stage = stage
        begun = trainer.progress.step
        before = same_steps(trainer, begun)
        for number in range(steps):
            trainer.step(number)
        assert same_steps(trainer, begun) < before - 0.05, stage


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("stage", "learns"), [("decoder", False), ("joint", True)])
def test_the_tower_learns_when_all_do(name, stage, learns, tmp_path):
    trainer = Trainer(small_session(name), tmp_path, Plan(seconds=1e6, first=stage))
    trainer.step(0)
    assert any(parameter.grad is not None for parameter in trainer.tower) == learns
    assert all(parameter.grad is not None for parameter in trainer.builder.shower.projector.parameters())


def test_a_run_goes_on_where_it_was(tmp_path):
    plan = Plan(seconds=1e6, warmup=2)
    whole = Trainer(small_session(), tmp_path, plan)
    for i in range(2):
        whole.step(i)
    whole.save()
    resumed = Trainer(small_session(), tmp_path, plan)
    assert resumed.progress == whole.progress
    assert resumed.step(2) == pytest.approx(whole.step(2), rel=1e-3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_checkpoint_has_what_was_learnt(name, tmp_path):
    trainer = Trainer(small_session(name), tmp_path, Plan(seconds=1e6, first="joint"))
    trainer.step(0)
    ARCHITECTURES[name].export(trainer.model, tmp_path / "checkpoint")
    again = load(str(tmp_path / "checkpoint"), preset="off", device="cpu", dtype="float32").model
    for (part, theirs), ours in zip(trainer.model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(theirs.to(torch.bfloat16).float(), ours, msg=part)


def test_its_weights_have_the_names_of_the_hub(tmp_path):
    """Which other engines know: not those that `transformers` writes today."""
    ARCHITECTURES["tiny"].export(small_session().model, tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    parts = {name.rpartition(".layers.")[0] for name in names if ".layers." in name}
    assert parts == {"vision_tower.vision_model.encoder", "language_model.model"}


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_what_questions_name_is_learnt_only_where_it_is_asked_for(tmp_path, weight):
    trainer = Trainer(small_session(), tmp_path, Plan(1e6, grounding=weight, first="joint"))
    trainer.step(0)
    learnt = [value.grad is not None for value in trainer.heads["grounding"].parameters()]
    assert any(learnt) == (weight > 0)


def test_stop_ends_a_run_and_the_log_says_how_it_went(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny.trainer.ANNEAL", 0.5)
    monkeypatch.setattr("tiny.trainer.accuracy", lambda *_: {"colour": 0.5})
    trainer = Trainer(small_session(), tmp_path, Plan(seconds=1e6))
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


def test_right_answers_are_whole_answers():
    builder = Builder(small_session())
    stage, (prompt, _) = staged("position")
    with torch.no_grad():
        out = builder.forward([Example(stage, [(prompt, "top left"), (prompt, "top left")])])
    assert out.numbers.tolist() == [0, 0, 0, 1, 1, 1]  # two words and the end
    assert right_answers(builder, [Example(stage, [(prompt, "top left")] * 2)]) in ([True] * 2, [False] * 2)
    assert set(accuracy(builder, 2, ("colour", "tiles"))) == {"colour", "tiles"}
