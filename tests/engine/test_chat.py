"""Conversations: turns go on from the cache, and what was merged stays merged."""

import pytest
import torch

from illava_cli.errors import MediaError
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES


@pytest.mark.parametrize("name", ["llava grid, paper", "qwen, authors"])
def test_later_turns_extend_the_cache_and_merge_only_new_media(name, open_session):
    family, settings = SCHEDULES[name]
    chat = open_session(family, *settings).chat()
    first = chat.ask("What is it?", [picture(200, 150, 1)])
    lengths = [layer.get_seq_length() for layer in chat.cache.layers]
    assert lengths[0] == lengths[1] > lengths[2] == lengths[3] > lengths[4] == lengths[5]
    text = chat.ask("Sure?")
    assert text.usage.visual.patches == 0
    grown = [layer.get_seq_length() - n for layer, n in zip(chat.cache.layers, lengths, strict=True)]
    # the last token of an answer enters the cache with the next turn
    assert set(grown) == {text.usage.prompt_tokens + text.usage.completion_tokens - 1}
    second = chat.ask("And this?", videos=[clip(4, 64, 64, 3)])
    assert second.usage.visual.llm_kept < second.usage.visual.llm_in
    assert first.usage.visual.llm_kept < first.usage.visual.llm_in
    assert [m["role"] for m in chat.messages] == ["user", "assistant"] * 3


def test_merging_can_be_switched_between_turns(open_session):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings, fresh=True)
    for order in ((False, True), (True, False)):
        chat = session.chat()
        for on in order:
            session.merging = on
            v = chat.ask("What?", [picture(150, 150, 2)]).usage.visual
            assert (v.llm_kept < v.llm_in) == (v.vision_kept < v.patches) == on
        assert chat.ask("Text only.").text is not None


def test_a_failed_turn_leaves_the_conversation_as_it_was(open_session):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings)
    chats = [session.chat(), session.chat()]
    for chat in chats:
        chat.ask("What?", [picture(150, 150, 2)])
    with pytest.raises(MediaError):
        chats[0].ask("And this?", ["missing.jpg"])
    answers = [chat.ask("Sure?", logits=True) for chat in chats]
    assert torch.equal(answers[0].logits, answers[1].logits)
    assert len(chats[0].messages) == 4


def test_clear_forgets(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    chat = open_session(family, *settings).chat()
    fresh = chat.ask("What?", [picture(150, 150, 2)], logits=True).logits
    chat.ask("More.")
    chat.clear()
    assert (chat.cached_tokens, chat.messages) == (0, [])
    assert torch.equal(chat.ask("What?", [picture(150, 150, 2)], logits=True).logits, fresh)
