"""Streaming, stop strings, cancelling, prompts with markers, and the limits of the context."""

import json
import os
import signal
import threading

import pytest

from illava_cli.engine.answer import RowText
from illava_cli.engine.passes import Passes
from illava_cli.errors import ContextError, UsageError
from tests.conftest import WRITERS, picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32

FAMILY, SETTINGS = SCHEDULES["llava faithful, original"]
LONG = (*SETTINGS, "generation.max_tokens=24", "generation.temperature=1.0")


def test_the_stream_is_the_text(open_session):
    session = open_session(FAMILY, *LONG)
    pieces = []
    answer = session.ask("Tell me.", [picture(90, 90)], on_text=pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert answer.text == session.ask("Tell me.", [picture(90, 90)]).text


def test_a_stop_string_ends_the_answer_and_is_not_shown(open_session):
    session = open_session(FAMILY, *LONG, fresh=True)
    whole = session.ask("Tell me.").text
    stop = whole[len(whole) // 2 :][:2]
    session = session.updated([f"stop={json.dumps([stop])}"])
    pieces = []
    answer = session.ask("Tell me.", on_text=pieces.append)
    assert answer.text == whole[: whole.index(stop)] == "".join(pieces)
    assert answer.finish_reason == "stop"


def test_a_stop_token_ends_the_answer_and_is_not_shown(open_session):
    session = open_session(FAMILY, *LONG)
    whole = session.ask("Tell me.").token_ids
    stop = whole[len(whole) // 2]
    at = whole.index(stop)
    pieces = []
    answer = session.updated([f"stop_token_ids={stop}"]).ask("Tell me.", on_text=pieces.append)
    assert (answer.token_ids, answer.finish_reason) == (whole[: at + 1], "stop")
    assert "".join(pieces) == answer.text == session.family.tokenizer.decode(whole[:at])


def test_an_answer_may_go_on_beyond_its_end(open_session):
    session = open_session(FAMILY, *SETTINGS, "generation.max_tokens=6", fresh=True)
    first = session.ask("Tell me.").token_ids[0]
    session.model.generation_config.eos_token_id = first
    assert session.ask("Tell me.").token_ids == (first,)
    on = session.updated(["ignore_eos=true"]).ask("Tell me.")
    assert (len(on.token_ids), on.finish_reason) == (6, "length")


class _Letters:
    """A tokenizer of one letter a token, as far as `RowText` asks."""

    backend_tokenizer = None


@pytest.mark.parametrize("stop", ["abcd", "cd", "d"])
def test_what_may_become_a_stop_string_is_held_back(stop, monkeypatch):
    shown = []
    row = RowText(_Letters(), [stop, "zz"], shown.append)
    row.stream = type("Stream", (), {"step": lambda self, backend, token: token})()
    for letter in "xabcabcde":
        row.put(letter)
        assert stop[0] not in "".join(shown)[-len(stop) :] or stop not in "".join(shown)
    assert row.finish("xabcabcde") == "xabcabcde"[: "xabcabcde".index(stop)] == "".join(shown)


def test_bytes_that_are_no_text_do_not_end_the_stream(open_session):
    """An `h` written as a byte is one only as long as the bytes after it make sense."""
    tokenizer = open_session("llava_next", "preset=off").family.tokenizer
    ids = tokenizer.convert_tokens_to_ids(["▁the", "<0x68>", "<0xE6>", "▁image", "▁of"])
    pieces = []
    row = RowText(tokenizer, [], pieces.append)
    for number in ids:
        row.put(number)
    text = row.finish(tokenizer.decode(ids, skip_special_tokens=True))
    assert text == "".join(pieces)
    assert text.startswith("theh")
    assert text.endswith(" of")


def test_cancelling_ends_the_answer(open_session):
    session = open_session(FAMILY, *LONG)
    cancel = threading.Event()
    answer = session.ask("Tell me.", on_text=lambda _: cancel.set(), cancel=cancel)
    assert answer.usage.completion_tokens < 24
    assert answer.finish_reason is None


def test_ctrl_c_ends_a_streamed_turn_at_once_and_nothing_is_kept_of_it(open_session, monkeypatch):
    session = open_session(FAMILY, *LONG)
    chat, turns, pieces = session.chat(), [], []
    answer = Passes.answer
    monkeypatch.setattr(Passes, "answer", lambda self, turn: turns.append(turn) or answer(self, turn))

    def show(piece):
        pieces.append(piece)
        os.kill(os.getpid(), signal.SIGINT)
        assert turns[0].cancel.wait(60)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            chat.ask("Tell me.", on_text=show)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(pieces) <= 2  # the second: what was held back of the text
    assert (chat.cached_tokens, chat.messages) == (0, [])
    assert chat.ask("Tell me.").text == session.ask("Tell me.").text


def test_finish_reason_length(open_session):
    answer = open_session(FAMILY, *SETTINGS, "generation.max_tokens=1").ask("Tell me.")
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 1)


@pytest.mark.parametrize("family", WRITERS)
def test_markers_place_media(family, open_session):
    session = open_session(family, "preset=off", "generation.max_tokens=1")
    images = [picture(60, 60, 1), picture(60, 60, 2)]
    first = session.ask("Compare.", images, logits=True).logits
    named = session.ask("<image><image>Compare.", images, logits=True).logits
    between = session.ask("Compare <image> with <image>.", images, logits=True).logits
    assert (first - between).abs().max() > 10 * FLOAT32["atol"]
    if not family.startswith(("llava", "internvl")):  # its template puts a line break between media and text
        assert (first - named).abs().max() < FLOAT32["atol"]
    swapped = session.ask("Compare <image> with <image>.", images[::-1], logits=True).logits
    assert (between - swapped).abs().max() > 10 * FLOAT32["atol"]


@pytest.mark.parametrize(
    ("prompt", "images", "part"),
    [
        ("<image> and <image>", 1, "the prompt has 2 <image> and there is 1 image"),
        ("<video>?", 0, "the prompt has 1 <video> and there are 0 videos"),
    ],
)
def test_more_places_than_media(prompt, images, part, open_session):
    session = open_session("qwen2_vl", "preset=off")
    with pytest.raises(UsageError, match="there") as error:
        session.ask(prompt, [picture(60, 60)] * images)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_prompt_longer_than_the_context(open_session):
    session = open_session(FAMILY, *SETTINGS)
    with pytest.raises(ContextError, match="use fewer frames"):
        session.ask("word " * session.context_length)


def test_media_for_which_the_context_has_no_room_are_not_encoded(open_session, monkeypatch):
    session = open_session("llava_next", "preset=off")
    monkeypatch.setattr(type(session.runner), "encode", lambda self, turns: pytest.fail("encoded"))
    monkeypatch.setattr(session.family.text_config, "max_position_embeddings", 60)
    with pytest.raises(ContextError, match="the prompt has"):
        session.ask("What?", [picture(200, 150)])


def test_an_answer_that_would_leave_the_context_is_shortened_and_says_so(open_session):
    session = open_session(FAMILY, *SETTINGS, "generation.max_tokens=100000")
    prompt = "a" * (session.context_length - 120)
    answer = session.ask(prompt)
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= session.context_length
    assert "leaves room for" in answer.notes[0]


def test_text_that_is_no_text(open_session):
    session = open_session(FAMILY, *SETTINGS)
    with pytest.raises(UsageError, match="not valid UTF-8"):
        session.ask("bad \udcff")
    with pytest.raises(UsageError, match="system prompt is not valid"):
        session.ask("good", system="bad \udcff")
