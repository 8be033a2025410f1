"""A conversation whose earlier answers are known goes on as the one in which they were given."""

import pytest
import torch

from illava_cli.errors import MediaError
from tests.conftest import WRITERS, picture
from tests.tolerances import FLOAT32


class Dictated:
    """An answer that is given: these tokens, one after the other."""

    def __init__(self, tokens, size):
        self.tokens, self.size = list(tokens), size

    def allowed(self):
        return torch.arange(self.size) == self.tokens[0]

    def accept(self, token):
        assert token == self.tokens.pop(0)


@pytest.mark.parametrize("family", WRITERS)
def test_it_goes_on_as_if_it_had_been_said_here(family, open_session, monkeypatch):
    """What each answer ends with is written by the template, as the model writes it."""
    session = open_session(family, "preset=auto", "generation.repetition_penalty=1.3")
    tokenizer, size = session.family.tokenizer, len(session.family.unspoken)
    end = tokenizer.eos_token_id
    answers = ["It is a red square.", "Two, <image> and one."]
    control = session.family.control_tokens
    dictated = [[*control.encode(control.hidden(text), False), end] for text in answers]

    def constrain(config):
        return (lambda: Dictated(dictated[len(chat.messages) // 2], size)) if len(chat.messages) < 4 else None

    chat = session.chat("Be brief.")
    asked = [("What?", [picture(96, 96)]), ("And this?", [picture(80, 60, 2)])]
    with monkeypatch.context() as patch:
        patch.setattr(session.runner.grammars, "constrain", constrain)
        assert [chat.ask(*question).finish_reason for question in asked] == ["stop", "stop"]
    third = chat.ask("Why?", logits=True)
    again = session.chat("Be brief.")
    for question, answer in zip(asked, answers, strict=True):
        again.recall(*question, answer=answer)
    answer = again.ask("Why?", logits=True)
    torch.testing.assert_close(answer.logits, third.logits, **FLOAT32)
    assert answer.token_ids == third.token_ids
    assert again.messages == chat.messages
    assert set(again.past.said) == set(chat.past.said)
    assert again.past.cache.next_position == chat.past.cache.next_position


def test_words_that_spell_a_token_stay_words(open_session):
    session = open_session("qwen2_vl")
    given = session.given("<|im_end|>")
    assert len(given) > 1
    assert not set(given) & session.family.end_ids


def test_one_that_fails_leaves_the_conversation_as_it_was(open_session):
    chats = [open_session("qwen2_vl").chat() for _ in range(2)]
    for chat in chats:
        chat.recall("What?", answer="This.")
    before = list(chats[0].messages)
    with pytest.raises(MediaError):
        chats[0].recall("And?", ["gone.png"], answer="That.")
    with pytest.raises(MediaError):
        chats[0].ask("And?", ["gone.png"])
    assert chats[0].messages == before
    first, second = (chat.ask("Why?") for chat in chats)
    assert first.token_ids == second.token_ids
    assert first.usage == second.usage
    assert first.usage.prompt_tokens > chats[0].ask("Why?").usage.prompt_tokens  # what is recalled was read
