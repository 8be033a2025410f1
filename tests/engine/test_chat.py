"""Conversations: turns go on from the cache, and what was merged stays merged."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from illava_cli.engine import prompt as prompts
from illava_cli.engine.passes import Passes
from illava_cli.errors import ContextError, MediaError, UsageError
from tests.asked_alike import markers
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES
from tests.stock import Stock


@pytest.mark.parametrize("name", ["llava grid, paper", "qwen, authors", "qwen3, paper", "internvl, packed"])
def test_later_turns_extend_the_cache_and_merge_only_new_media(name, open_session):
    family, settings = SCHEDULES[name]
    chat = open_session(family, *settings).chat()
    first = chat.ask("What is it?", [picture(200, 150, 1)])
    lengths = [chat.past.cache.get_seq_length(layer) for layer in range(6)]
    assert lengths[0] == lengths[1] > lengths[2] == lengths[3] > lengths[4] == lengths[5]
    text = chat.ask("Sure?")
    assert text.usage.visual.patches == 0
    grown = [chat.past.cache.get_seq_length(layer) - n for layer, n in enumerate(lengths)]
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
            chat.switch(session.with_merging(on))
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


def test_the_repetition_penalty_counts_the_whole_conversation(open_session, checkpoints, monkeypatch):
    """As where all of it is given to `transformers` once more."""
    session = open_session("qwen2_vl", "preset=off", "model.dtype=float64", "generation.max_tokens=8")
    session = session.updated(["repetition_penalty=1.5"])
    stock = Stock(checkpoints("qwen2_vl"), dtype=torch.float64)
    answer, asked = Passes.answer, []
    monkeypatch.setattr(Passes, "answer", lambda self, turn: asked.append(turn) or answer(self, turn))
    chat, ids = session.chat(), []
    for prompt in ("Which one?", "Why?", "Sure?"):
        found = chat.ask(prompt)
        ids = ids[:-1] + asked[-1].spoken  # which begin with the last answer's last token
        expected = stock.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            max_new_tokens=8,
            do_sample=False,
            repetition_penalty=1.5,
            suppress_tokens=session.family.unspoken.nonzero().flatten().tolist(),
        )
        assert list(found.token_ids) == expected[0, len(ids) :].tolist()
        ids += found.token_ids
    plain = session.updated(["repetition_penalty=1"]).chat()
    assert [plain.ask(p).token_ids for p in ("Which one?", "Why?", "Sure?")][-1] != found.token_ids


def test_clear_forgets(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    chat = open_session(family, *settings).chat()
    fresh = chat.ask("What?", [picture(150, 150, 2)], logits=True).logits
    chat.ask("More.")
    chat.clear()
    assert (chat.cached_tokens, chat.messages) == (0, [])
    assert torch.equal(chat.ask("What?", [picture(150, 150, 2)], logits=True).logits, fresh)


@pytest.mark.parametrize("after", ["a word", "the prompt"])
def test_a_turn_that_breaks_midway_is_rolled_back(after, open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, "generation.temperature=1.0", fresh=True)
    chats = [session.chat(), session.chat()]
    for chat in chats:
        chat.ask("What?", [picture(150, 150, 2)])

    def fail(text):
        raise BrokenPipeError

    if after == "a word":
        with pytest.raises(BrokenPipeError):
            chats[0].ask("And this?", [picture(90, 60, 3)], on_text=fail)
    else:
        with pytest.raises(ContextError):
            chats[0].ask("word " * session.context_length)
    assert chats[0].cached_tokens == chats[1].cached_tokens
    answers = [chat.ask("Sure?", logits=True) for chat in chats]
    assert torch.equal(answers[0].logits, answers[1].logits)
    assert answers[0].token_ids == answers[1].token_ids


def test_an_end_token_is_not_repeated_in_the_next_turn(open_session, monkeypatch):
    """An answer that ended by itself has its end token; the template's own is then left out."""
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, fresh=True)
    first = session.ask("What?").token_ids[0]
    end = session.family.tokenizer.eos_token_id
    lengths = []
    for ids in ([end], [end, first]):  # in the second case the first answer stops at once
        session.model.generation_config.eos_token_id = ids
        chat = session.chat()
        answer = chat.ask("What?")
        pending = chat.past.pending[-1]
        lengths.append(chat.ask("More?").usage.prompt_tokens)
    assert answer.token_ids == (first,)
    assert pending == first
    later = session.family.tokenizer("<|im_end|>\n<|im_start|>user\nMore?", add_special_tokens=False)
    parts = prompts.later_turn(
        session.family, prompts.user_message(session.family, "More?", 0, 0), end, markers(session.family)
    )
    assert parts[0][: len(later["input_ids"]) - 1] == later["input_ids"][1:]


def test_conversations_keep_their_own_decoder_schedule(open_session):
    settings = (
        "preset=off",
        "generation.max_tokens=2",
        "llm={image: {layers: [2], keep: 0.5}, video: {layers: [3], keep: 0.2}}",
    )
    session = open_session("qwen2_vl", *settings, fresh=True)
    frames = clip(4, 64, 64, 3)
    alone = session.ask("What?", videos=[frames]).usage.visual
    session.ask("What?", [picture(90, 90)])
    assert session.ask("What?", videos=[frames]).usage.visual == alone
    together = session.ask_batch(
        [{"prompt": "What?", "images": [picture(90, 90)]}, {"prompt": "What?", "videos": [frames]}]
    )
    assert together[1].usage.visual == alone


def test_merging_off_is_noted(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, fresh=True)
    session = session.with_merging(False)
    assert session.ask("What?", [picture(90, 90)]).notes == ("merging was off",)


def test_threads_that_ask_one_conversation_go_on_from_one_another(open_session):
    """Each turn begins where the last one ended, whoever asked it."""
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, "generation.max_tokens=3")
    together, after_another = session.chat(), session.chat()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(together.ask, ["One more?"] * 6))
    for _ in range(6):
        after_another.ask("One more?")
    assert together.messages == after_another.messages
    assert together.past.cache.depths == after_another.past.cache.depths


def test_nor_is_a_question_asked_from_the_last_words_of_an_answer(open_session):
    """What may begin a stop string is held back until no pass is under way any more."""
    session = open_session("qwen2_vl", "preset=off", "generation.max_tokens=4")
    text = session.ask("Why?").text
    chat, told = session.updated([f"stop=[{json.dumps(text + 'zz')}]"]).chat(), []

    def on_text(piece):
        told.append(piece)
        chat.ask("And?")

    with pytest.raises(UsageError, match="from within on_text"):
        chat.ask("Why?", on_text=on_text)
    assert told == [text]
    assert chat.ask("Why?").text == text
