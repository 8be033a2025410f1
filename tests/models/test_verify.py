"""A merge that was asked for and did not happen is an error: no answer over a cache that is not merged."""

import types

import pytest
import torch

from illava_cli.errors import MergeError
from illava_cli.models import tower
from illava_cli.models.binding import bind
from illava_cli.models.decoder import attends
from illava_cli.models.hf import CACHE
from illava_cli.models.prefill import Prefill
from illava_cli.models.schedule import MergePoint
from tests.conftest import WRITERS, picture
from tests.schedules import SCHEDULES

FAMILIES = (
    *("llava grid, paper", "next grid, paper", "qwen, paper", "qwen2.5, paper", "qwen3, early"),
    *("qwen3.5, paper", "internvl, original", "gemma4, paper"),
)
ONE_LINE = r"did not happen.*\(transformers \d.*, torch \d.*\); .*"


@pytest.fixture(params=FAMILIES)
def session(request, open_session):
    family, settings = SCHEDULES[request.param]
    return open_session(family, *settings, fresh=True)


def ask(session):
    session.ask("What?", [picture(90, 60)])


def test_what_happens_as_scheduled_passes(session):
    ask(session)


def test_layers_that_do_not_take_the_cache_are_an_error(session):
    """What a renamed argument did: every layer answers, over a cache that holds nothing."""
    layers = session.family.text_model.layers
    whole = [layer for layer in layers if attends(layer)]  # the others hold states
    for layer in whole:
        attention, stock = layer.self_attn, layer.self_attn.forward
        attention.forward = lambda *args, stock=stock, **kwargs: stock(*args, **{**kwargs, CACHE: None})
    with pytest.raises(MergeError, match=rf"layer {[*layers].index(whole[0])} took 0 new tokens, not \d+"):
        ask(session)


def test_a_tower_that_ends_before_its_last_scheduled_layer_is_an_error(session, monkeypatch):
    """As where a later release keeps its blocks elsewhere."""
    key = session.family.key
    module = key if key in ("gemma4", "internvl") else "llava" if key.startswith("llava") else "qwen2_vl"
    monkeypatch.setattr(
        f"illava_cli.models.families.{module}.run_blocks",
        lambda blocks, *arguments: tower.run_blocks(list(blocks)[:2], *arguments),
    )
    with pytest.raises(MergeError, match=f"the vision tower {ONE_LINE}"):
        ask(session)


def test_a_tower_that_merges_nothing_is_an_error(session, monkeypatch):
    monkeypatch.setattr("illava_cli.models.tower.TowerTokens.after", lambda self, merge: self)
    with pytest.raises(MergeError, match=f"the vision tower {ONE_LINE}"):
        ask(session)


def test_a_tower_that_runs_past_our_loop_is_an_error(session, monkeypatch):
    monkeypatch.setattr(session.family, "run_tower", lambda *args: torch.zeros(1, 36, 8))
    with pytest.raises(MergeError, match=f"the vision tower {ONE_LINE}"):
        ask(session)


@pytest.mark.parametrize("where", ["decoder", "tower"])
def test_attention_that_runs_past_our_function_is_an_error(where, open_session):
    """As where a later release reads the name of its attention function elsewhere."""
    family, settings = SCHEDULES["llava grid, paper"]
    session = open_session(family, *settings, fresh=True)
    layers = session.family.text_model.layers if where == "decoder" else list(session.family.tower_blocks())
    layers[1].self_attn.config._attn_implementation = "eager"
    with pytest.raises(MergeError, match=r"ran past us \(transformers"):
        ask(session)


def sparing(open_session):
    """A session that reduces between tower and decoder, by the scores of the tower's last layer."""
    stages = "vision={layers: [1], r: [11]}", "input={keep: 0.5, method: attention-prune}"
    return open_session("llava_onevision", "preset=off", "layout=faithful", *stages, fresh=True)


def test_a_layer_that_only_scores_and_whose_attention_is_passed_by_is_an_error(open_session):
    """The last layer's scores decide what the decoder gets: those of an earlier merge look as good."""
    session = sparing(open_session)
    ask(session)
    block = list(session.family.tower_blocks())[-1]
    bind(block.self_attn, lambda self, hidden_states, **kwargs: (hidden_states, None))
    session.features.clear()
    with pytest.raises(MergeError, match=r"ran past us \(transformers"):
        ask(session)


def test_a_reduction_after_the_tower_that_is_lost_is_an_error(open_session, monkeypatch):
    monkeypatch.setattr("illava_cli.models.encoder.thinned", lambda survivors, *args, **kwargs: survivors)
    with pytest.raises(MergeError, match=f"the reduction after the vision tower {ONE_LINE}"):
        ask(sparing(open_session))


def test_a_decoder_merge_that_is_lost_is_an_error(session, monkeypatch):
    if session.family.decoder_fixed:
        pytest.skip("nothing merges in its decoder")
    monkeypatch.setattr("illava_cli.models.decoder_merge.Prompt.merged", lambda self, *arguments: self)
    first, _ = session.schedules["image"].decoder[0]
    with pytest.raises(MergeError, match=rf"layer {first} took \d+ new tokens, not \d+"):
        ask(session)


def test_a_layer_that_keeps_nothing_is_an_error(session):
    """Each pass is looked at, not only the prefill."""
    number = 0 if session.family.layers.borrowing else 3  # one that caches, and whose keys none borrows
    layer = session.family.text_model.layers[number]
    stock = layer.forward

    def forward(self, hidden_states, **kwargs):
        if hidden_states.shape[1] > 1:
            return stock(hidden_states, **kwargs)
        return hidden_states  # a decoding step that caches nothing

    layer.forward = types.MethodType(forward, layer)
    with pytest.raises(MergeError, match=rf"layer {number} took 0 new tokens, not 1"):
        ask(session)


def test_a_failed_turn_leaves_the_chat_as_it_was(session, monkeypatch):
    chat = session.chat()
    chat.ask("What?", [picture(90, 60)])
    before = chat.cached_tokens, len(chat.messages)
    with monkeypatch.context() as patch:
        lost = "tower.TowerTokens.after" if session.family.decoder_fixed else "decoder_merge.Prompt.merged"
        patch.setattr(f"illava_cli.models.{lost}", lambda self, *arguments: self)
        with pytest.raises(MergeError):
            chat.ask("And?", [picture(60, 90)])
    assert (chat.cached_tokens, len(chat.messages)) == before
    chat.ask("And?", [picture(60, 90)])


def test_planned_lengths():
    """By hand: rows of 12 and 10 tokens, of which 8 and 5 are visual, in two groups and one."""
    nothing = torch.zeros(2, 12)
    points = {1: MergePoint(0.5), 3: MergePoint(0.1)}
    new = Prefill(nothing, nothing, [12, 10], [12, 10], nothing, nothing, [[5, 3], [5]], merge_points=points)
    # Layer 1 leaves 5 - round(2.5) = 3 and 3 - round(1.5) = 1 beside 4 of text, and 3 beside 5.
    # Layer 3 would leave 3 - round(2.7) = 0 and 1 - round(0.9) = 0; of each, one stays.
    assert new.planned(4) == [12, 8, 8, 6]


@pytest.mark.parametrize("family", list(WRITERS))
def test_layers_take_the_cache_under_the_name_of_the_seam(family, open_session):
    import inspect

    for layer in open_session(family, "preset=off").family.text_model.layers:
        assert CACHE in inspect.signature(type(layer).forward).parameters
