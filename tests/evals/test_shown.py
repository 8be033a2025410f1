"""Training passes that the program lays out: several questions at once, each as if it were asked alone."""

from __future__ import annotations

import pytest
import torch
from shown import Shower

from illava_cli import load
from tests.conftest import clip, picture
from tests.tolerances import FLOAT32

TURNS = [("What is this?", "yes"), ("And how many things are there?", "three of them"), ("Why?", "no")]
MEDIA = {
    "an image": {"images": [picture(84, 84, 1)]},
    "two images": {"images": [picture(100, 60, 2), picture(60, 110, 3)]},
    "a clip": {"videos": [clip(4, 60, 60)]},
}
FAMILIES = {
    "llava_onevision": tuple(MEDIA),
    "llava_next": ("an image", "two images"),
    "qwen2_vl": tuple(MEDIA),
    "qwen3_vl": tuple(MEDIA),
}
CASES = [(family, name) for family, names in FAMILIES.items() for name in names]


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_each_question_is_answered_as_if_it_were_alone(family, name, attn, checkpoints):
    """The logits of each answer's first token, in a batch with other media and shorter turns."""
    session = load(checkpoints(family), preset="off", device="cpu", dtype="float32", attn=attn, max_tokens=1)
    shower, media = Shower(session), MEDIA[name]
    shown = shower.media(media.get("images", ()), media.get("videos", ()))
    other = shower.media([picture(90, 84, 5)])
    with torch.no_grad():
        out = shower.forward([(other, TURNS[:1]), (shown, TURNS)])
        logits = session.model.lm_head(out.last[out.batch.answered])
    for number, (prompt, _) in enumerate(TURNS, 1):  # the other picture's answer is number 0
        begin = int((out.batch.numbers == number).nonzero()[0])
        alone = session.ask(prompt, **media, logits=True).logits.float().view(-1)
        known = torch.isfinite(alone)
        torch.testing.assert_close(logits[begin, : len(alone)][known], alone[known], **FLOAT32)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tower_learns_from_an_answer(family, checkpoints):
    session = load(checkpoints(family), preset="off", device="cpu", dtype="float32", max_tokens=1)
    session.model.requires_grad_(True)
    shower = Shower(session)
    out = shower.forward([(shower.media(MEDIA["an image"]["images"]), TURNS[:1])])
    logits = session.model.lm_head(out.last[out.batch.answered])
    torch.nn.functional.cross_entropy(logits, out.batch.target).backward()
    learnt = [
        name
        for name, value in session.model.named_parameters()
        if value.grad is not None and value.grad.any()
    ]
    assert any("patch_embed" in name for name in learnt)
    assert any("embed_tokens" in name for name in learnt)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_watched_head_is_the_models(family, checkpoints):
    """Against the attention that `transformers` gives of the stock model, prompt by prompt."""
    session = load(checkpoints(family), preset="off", device="cpu", dtype="float32", max_tokens=1)
    shower, images = Shower(session), [picture(84, 84, 1)]
    with torch.no_grad():
        out = shower.forward([(shower.media(images), TURNS[:1])], watched=[(0, 0), (0, 3), (1, 0)])
        stock = type(session.model)(session.model.config).eval()
        stock.load_state_dict(session.model.state_dict())
        stock.set_attn_implementation("eager")
        embeds, length = out.hidden[0], out.hidden[0].shape[1]
        seen = stock.model.language_model.layers[0].self_attn
        theirs = []
        hook = seen.register_forward_hook(lambda *given: theirs.append(given[-1][1]))
        stock.model.language_model(inputs_embeds=embeds, position_ids=out.positions, output_attentions=True)
        hook.remove()
    for head in (0, 3):
        torch.testing.assert_close(out.looks[0, head], theirs[0][:, head], **FLOAT32)
    assert out.looks[1, 0].shape == (1, length, length)
    torch.testing.assert_close(out.looks[1, 0].sum(-1), torch.ones(1, length))
