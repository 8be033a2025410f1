"""An id without a token, or in a medium's place, is never part of an answer, however likely."""

import pytest
import torch

from tests.conftest import WRITERS, picture
from tests.stock import FAMILIES

QUESTION = ("What?", [picture(90, 60)])


def placeholders(family, tokenizer):
    """Those that a tokenizer has."""
    return [word for word in FAMILIES[family].PLACEHOLDERS if word in tokenizer.get_vocab()]


@pytest.fixture
def preferring(open_session):
    """A session whose head likes such ids best, as a badly trained padding row may be."""

    def get(family, *settings):
        session = open_session(family, "preset=off", "generation.max_tokens=6", *settings, fresh=True)
        tokenizer, head = session.family.tokenizer, session.model.get_output_embeddings()
        media = tokenizer.convert_tokens_to_ids(placeholders(family, tokenizer))
        bonus = torch.zeros(head.weight.shape[0])
        bonus[[*range(len(tokenizer), len(bonus)), *media]] = 100
        head.register_forward_hook(lambda module, args, logits: logits + bonus)
        return session, bonus.nonzero().flatten().tolist()

    return get


@pytest.mark.parametrize("family", WRITERS)
def test_no_answer_has_them(family, preferring, open_session):
    session, disliked = preferring(family)
    usual = open_session(family, "preset=off", "generation.max_tokens=6")
    expected = usual.ask(*QUESTION, logits=True)
    answer = session.ask(*QUESTION, logits=True)
    assert len(disliked) > len(list(FAMILIES[family].PLACEHOLDERS))  # there are rows without a token
    assert answer.token_ids == expected.token_ids
    assert answer.logits.argmax() in disliked  # the logits stay what the model said
    rows = session.ask_batch([{"prompt": "What?", "images": QUESTION[1]}, {"prompt": "Why?"}])
    assert not {token for row in rows for token in row.token_ids} & {*disliked}

    # the nucleus is made of what is left
    session = session.updated(["temperature=1.5", "top_p=0.3"])
    sampled = session.ask(*QUESTION)
    assert not {*sampled.token_ids} & {*disliked}
    usual = usual.asking(session.config)
    assert sampled.token_ids == usual.ask(*QUESTION).token_ids


def test_an_end_needs_no_token(open_session):
    """A checkpoint may end its answers with an id that its tokenizer has no word for."""
    session = open_session("llava_onevision", "preset=off", "generation.max_tokens=6", fresh=True)
    last = session.model.get_output_embeddings().weight.shape[0] - 1
    assert session.family.unspoken[last]
    del session.family.unspoken
    session.model.generation_config.eos_token_id = [last]
    head = session.model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, logits: logits.index_fill(-1, torch.tensor([last]), 100))
    answer = session.ask(*QUESTION)
    assert (answer.token_ids, answer.finish_reason) == ((last,), "stop")
