"""When an answer counts as right."""

import pytest

from illava_cli.evals.matching import chosen, is_right, normalise


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Red.", "red"),
        ("  The   red\nsquare ", "red square"),
        ("a cat on the mat", "cat on mat"),
        ("A", "a"),
        ("3.5", "3.5"),
        ("No.", "no"),
        ("another thesis", "another thesis"),
        ("", ""),
        ("ÉTÉ", "été"),
    ],
)
def test_normalise(text, plain):
    assert normalise(text) == plain


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("blue", "blue"),
        ("The blue.", "blue"),
        ("B", "blue"),
        ("b", "blue"),
        ("(B)", "blue"),
        ("B.", "blue"),
        ("B) blue", "blue"),
        ("B. red", None),
        ("C", None),
        ("It is blue", None),
        ("", None),
    ],
)
def test_chosen(text, found):
    assert chosen(text, ["red", "blue"]) == found


def test_a_choice_goes_before_a_letter():
    assert chosen("B", ["C", "A", "B"]) == "B"
    assert chosen("A dog", ["dog", "cat"]) == "dog"


def test_is_right():
    assert is_right("The Cat.", "cat") is True
    assert is_right("cats", "cat") is False
    assert is_right("(A)", "yes", ("yes", "no")) is True
    assert is_right("no", "yes", ("yes", "no")) is False
    assert is_right("anything", None) is None
