"""Thoughts before an answer: off unless they are asked for, and refused where a model has none."""

import pytest

from illava_cli.cli.app import main
from illava_cli.engine.request import Request
from illava_cli.errors import UsageError
from tests.conftest import picture

ON, CLOSED, OPENED = "generation.thinking=true", "<think>\n\n</think>\n\n", "<think>\n"
QUICK = ("preset=off", "generation.max_tokens=2")


def prompt(session, question="What?", images=(), past=None, **options):
    """The text of a turn, without its media."""
    turn = session.turn(session.prepare(Request(question, images)), past, **options)
    return "".join(session.family.tokenizer.decode(part) for part in turn.parts if isinstance(part, list))


def test_a_model_thinks_only_if_it_is_asked_to(open_session):
    session = open_session("qwen3_5", *QUICK)
    thinking = session.updated([ON])
    for one, opening in ((session, CLOSED), (thinking, OPENED)):
        assert prompt(one).endswith(f"<|im_start|>assistant\n{opening}")
        assert prompt(one, images=[picture(64, 64)]).endswith(
            f"What?<|im_end|>\n<|im_start|>assistant\n{opening}"
        )
    assert thinking.ask("What?").usage.prompt_tokens < session.ask("What?").usage.prompt_tokens


def test_later_turns_think_too(open_session):
    session = open_session("qwen3_5", *QUICK)
    for one, opening in ((session, CLOSED), (session.updated([ON]), OPENED)):
        chat = one.chat()
        chat.ask("What?")
        assert prompt(one, "Sure?", past=chat.past).endswith(
            f"Sure?<|im_end|>\n<|im_start|>assistant\n{opening}"
        )


def test_an_answer_that_is_given_has_no_thoughts(open_session):
    """As the templates have it, which leave those of earlier turns out; so none is left open."""
    session = open_session("qwen3_5", *QUICK).updated([ON])
    given = session.given("A thing.\n</think>\n\nA square.")
    assert session.family.tokenizer.decode(given) == "A square."
    assert prompt(session, given=given).endswith(CLOSED)
    assert prompt(session).endswith(OPENED)
    chats = [session.chat(), session.chat()]
    chats[0].recall("What?", answer="A thing.\n</think>\n\nA square.")
    chats[1].recall("What?", answer="A square.")
    assert chats[0].ask("Sure?").token_ids == chats[1].ask("Sure?").token_ids
    plain = open_session("qwen2_vl", *QUICK)
    assert plain.family.tokenizer.decode(plain.given("a</think>b")) == "a</think>b"


def test_gemma4_is_asked_in_the_system_turn_and_marks_thoughts_its_own_way(open_session):
    session = open_session("gemma4", *QUICK)
    thinking = session.updated([ON])
    assert "<|think|>" not in prompt(session)
    assert prompt(thinking).startswith("<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nWhat?")
    given = thinking.given("<|channel>thought\nA thing.\n<channel|>A square.")
    assert session.family.tokenizer.decode(given) == "A square."


@pytest.mark.parametrize("family", ["qwen2_vl", "llava_onevision", "internvl"])
def test_refused_where_the_template_has_no_thoughts(family, open_session):
    session = open_session(family, *QUICK)
    with pytest.raises(UsageError, match=r"thinking: the chat template of .* has no enable_thinking"):
        session.updated([ON])
    assert (
        session.updated(["generation.thinking=false"]).ask("What?").token_ids
        == session.ask("What?").token_ids
    )


def test_the_flag(checkpoints, capsys):
    arguments = ["run", "--device", "cpu", "--max-tokens", "2", "-p", "What?", "--thinking"]
    assert main([*arguments, "-m", checkpoints("qwen3_5")]) == 0
    capsys.readouterr()
    assert main([*arguments, "-m", checkpoints("qwen2_vl")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "leave --thinking out" in err.splitlines()[-1]
