"""One question with merging off and on: agreement, memory, and the layers' clock."""

from __future__ import annotations

import threading

import pytest
import torch

from illava_cli.engine.clock import LayerClock
from illava_cli.engine.record import Generation
from illava_cli.errors import Cancelled
from illava_cli.evals.pair import agreement, ask_both
from tests.conftest import picture
from tests.schedules import SCHEDULES


def said(*tokens, logits=(0.0, 1.0)) -> Generation:
    return Generation("", "stop", "", "", 0, "", token_ids=tokens, logits=torch.tensor(logits))


@pytest.mark.parametrize(
    ("plain", "merged", "first"),
    [((1, 2, 3), (1, 2, 3), None), ((1, 2, 3), (1, 5, 3), 1), ((1, 2), (1, 2, 3), 2), ((1,), (), 0)],
)
def test_the_first_token_that_differs(plain, merged, first):
    found = agreement(said(*plain), said(*merged))
    assert (found.same, found.first_difference) == (first is None, first)
    assert found.kl == 0


def test_the_divergence_is_of_the_unmodified_model_first():
    p, q = (0.0, 2.0), (0.0, 0.0)
    expected = torch.tensor(p).softmax(0)
    expected = (expected * (expected / 0.5).log()).sum()
    assert agreement(said(1, logits=p), said(1, logits=q)).kl == pytest.approx(expected.item())
    assert agreement(said(1), said(1, logits=(float("nan"), 0.0))).kl is None


@pytest.mark.parametrize("schedule", ["llava faithful, original", "qwen, paper"])
def test_both_are_the_answers_of_their_own_runs(open_session, schedule):
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    image = picture(150, 120)
    clock = LayerClock(session.family)
    pair = ask_both(session, "What?", [image], [], cancel=threading.Event(), clock=clock, id="q")
    alone = session.ask("What?", [image])
    assert pair.merged.token_ids == alone.token_ids
    assert pair.merged.usage == alone.usage
    visual = pair.plain.usage.visual
    assert visual.patches == visual.vision_kept > pair.merged.usage.visual.vision_kept
    assert pair.plain.id == pair.merged.id == "q"
    assert min(pair.plain_peak, pair.merged_peak) > 0
    assert len(clock.tower) == session.family.tower_layers
    assert len(clock.llm) == 6
    assert min(*clock.tower, *clock.llm) > 0
    assert sum(clock.tower) <= pair.merged.timings.vision_s
    blocks = [*session.family.tower_blocks(), *session.family.text_model.layers]
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)


def test_stopped(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        ask_both(open_session(family, *settings), "What?", [picture(60, 60)], [], cancel=cancel)
