"""Features that are added after a decoder layer: at their tokens, and after a merge at what is left."""

from dataclasses import replace

import pytest
import torch

from illava_cli.engine import runner as running
from illava_cli.trace import VISUAL
from tests.conftest import picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT64

LAYERS = (0, 1, 3)  # before and after a merge at 2


@pytest.fixture
def session(open_session):
    """Merges before layer 2, and once more before layer 4."""
    family, settings = SCHEDULES["llava faithful, original"]
    return open_session(family, *settings, "model.dtype=float64", fresh=True)


def ask(session):
    return session.ask("What?", [picture(90, 60)], logits=True, trace=True)


def test_they_follow_the_tokens_through_a_merge(session, monkeypatch):
    """The same as where each layer itself had given so much more."""
    made, assemble = {}, running.assemble

    def with_injections(*args, **options):
        new, where = assemble(*args, **options)
        at = (new.kinds == VISUAL)[..., None]
        for layer in LAYERS:
            noise = torch.randn(new.embeds.shape, generator=torch.Generator().manual_seed(layer)).double()
            made[layer] = noise * at
        return replace(new, injections=dict(made)), where

    plain = ask(session)
    with monkeypatch.context() as patch:
        patch.setattr(running, "assemble", with_injections)
        injected = ask(session)
    assert (injected.logits - plain.logits).abs().max() > 0.01

    merges = dict(injected.trace["llm"])
    handles, seen = [], []
    for layer in LAYERS:
        extra = made[layer]
        for before in sorted(merges):
            if before <= layer:
                extra = merges[before].apply(extra)
                seen.append(layer)

        def add(module, args, output, extra=extra):
            return output + extra if output.shape[1] > 1 else output

        handles.append(session.family.text_model.layers[layer].register_forward_hook(add))
    again = ask(session)
    for handle in handles:
        handle.remove()
    assert seen == [3]
    torch.testing.assert_close(again.logits, injected.logits, **FLOAT64)
    assert again.token_ids == injected.token_ids
