"""`<image>` and `<video>` in a prompt, and how they are escaped."""

import pytest

from illava_cli.engine.markers import interleaved, placed, replaced, unplaced


@pytest.mark.parametrize(
    ("prompt", "kinds", "text"),
    [
        ("<image> and <video>", ["image", "video"], "[image] and [video]"),
        (r"\<image> and <video>", ["video"], "<image> and [video]"),
        (r"\\<image>", ["image"], "\\[image]"),
        (r"\\\<video>", [], r"\<video>"),
        (r"\ <image> \n", ["image"], r"\ [image] \n"),
        ("", [], ""),
        ("\\" * 400_000, [], "\\" * 400_000),  # for ever, if each of them were looked at from each
    ],
)
def test_an_odd_number_of_backslashes_escapes(prompt, kinds, text):
    assert placed(prompt) == kinds
    assert replaced(prompt, "[{}]".format) == text


@pytest.mark.parametrize("text", ["a", "<image>", "\\", "x\\\\", "<video>\\"])
def test_whatever_stands_before_a_medium_is_kept(text):
    prompt = interleaved([("text", text), ("image", None), ("text", "?")])
    assert placed(prompt) == ["image"]
    assert replaced(prompt, "[{}]".format) == f"{text}[image]?"


def test_a_blind_question_keeps_the_words():
    assert unplaced(r"Is <image> an \<image>?") == r"Is  an \<image>?"
