"""What the trainer says of two things of a picture, and of a place a frame before: held to the scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny.batches import Builder, Example, Turn
from tiny.checkpoint import ARCHITECTURES
from tiny.comparing import Comparing, comings, new_things, order, unlike
from tiny.grounding import gaps
from tiny.referents import referents, side

from tests.evals.staging import losses_while_learning, small_session, staged


@pytest.fixture(scope="module", params=ARCHITECTURES)
def builder(request):
    return Builder(small_session(request.param))


def passed(builder, task, seed=0):
    stage, question = staged(task, seed)
    heads = Comparing(builder.model.config.text_config)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])], watched=heads.watched)
    return stage, heads, out


def test_the_side_and_the_order_give_the_answer():
    for seed in range(20):
        stage, (prompt, answer) = staged("relation", seed)
        turn = Turn(0, 0, referents(stage, prompt), [], None, side(prompt))
        left, above = order(turn)
        true = {0: left == 1, 1: left == 0, 2: above == 1, 3: above == 0}[turn.side]
        assert true == (answer == "yes")


@pytest.mark.parametrize("task", ["colour", "video-direction", "what-is-at"])
def test_others_ask_about_no_side(task):
    for seed in range(20):
        assert side(staged(task, seed)[1][0]) is None


def test_gaps_are_the_blinks():
    for seed in range(20):
        stage, (prompt, answer) = staged("video-blinks", seed)
        (found,) = referents(stage, prompt)
        assert gaps(found.seen) == int(answer)
    assert gaps((False, False, True, True)) == 0  # it came late


def test_what_is_new_is_lit_after_dark(builder):
    """In the place of a thing that blinks, as many steps hold something new as it blinks."""
    for seed in range(6):
        stage, (prompt, answer) = staged("video-blinks", seed)
        with torch.no_grad():
            out = builder.forward([Example(stage, [(prompt, answer)])])
        (found,) = referents(stage, prompt)
        told = new_things(stage, out.sight)
        at = out.sight.places - torch.tensor(found.first)
        steps = out.sight.part.clamp(min=0).max() + 1
        middle = [
            told[out.sight.part == step][at[out.sight.part == step].norm(dim=-1).argmin()]
            for step in range(int(steps))
        ]
        assert sum(float(value) for value in middle if value == value) == int(answer)


def test_a_head_that_looks_a_frame_back_loses_less(builder):
    _, heads, out = passed(builder, "video-blinks")
    (layer, _), size, part = heads.watched, len(out.sight.part), out.sight.part
    looking = torch.zeros_like(out.shown.looks[layer])
    for token in range(size):
        for other in range(size):
            same = bool((out.sight.places[token] == out.sight.places[other]).all())
            looking[0, token, other] = float(same and part[token] == part[other] + 1)
    better = replace(out, shown=replace(out.shown, looks=out.shown.looks | {layer: looking}))
    assert heads(better)[0] < heads(out)[0] - 1


def test_what_a_head_looks_at_tells_how_often_a_thing_comes(builder):
    """Whatever the number of frames; one that looks elsewhere loses."""
    _, _, out = passed(builder, "video-blinks")
    (row, place, wanted), *_ = comings(out)
    seen = out.turns[0].referents[0].seen
    back = {n // out.sight.frames for n in range(1, len(seen)) if seen[n] and not seen[n - 1]}
    assert float(wanted[0]) == pytest.approx(1 / (1 + len(back)))
    assert float(wanted.sum()) == pytest.approx(1)
    assert {int(part) for part in out.sight.part[wanted > 0]} == back | {-1}
    attention = torch.zeros(1, place + 1, place + 1)
    attention[row, place, : len(wanted)] = wanted
    assert unlike(attention, [(row, place, wanted)]).abs() < 1e-5
    attention[row, place, 0] = 0
    assert unlike(attention, [(row, place, wanted)]) > 0.2


@pytest.mark.parametrize("task", ["relation", "video-blinks", "document-button"])
def test_the_loss_falls_as_the_readers_learn(builder, task):
    torch.manual_seed(0)
    _, heads, out = passed(builder, task)
    first, last = losses_while_learning(heads, out, 80)
    assert last < first - 0.3


def test_a_picture_without_sides_teaches_nothing(builder):
    _, heads, out = passed(builder, "colour")
    loss, right = heads(out)
    assert loss == 0
    assert not right
