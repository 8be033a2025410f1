"""One rule for text that comes in, and one for text that goes out."""

import io
import json
import os

import pytest

from illava_cli import text
from illava_cli.errors import UsageError

WORDS = "Größe?\n日本 😀\n"
FORMS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@pytest.mark.parametrize("form", FORMS)
def test_text_is_read_in_the_forms_that_programs_write(form):
    assert text.decoded(WORDS.encode(form), "x") == WORDS
    assert text.decoded("".encode(form), "x") == ""


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [(b"caf\xe9", "not UTF-8"), (b"\xed\xa0\x80", "not UTF-8"), (b"a\0b", "a NUL byte")],
)
def test_what_is_no_text_is_refused_with_its_line(mark, end, bad, reason):
    with pytest.raises(UsageError, match=f"^x.csv, line 3: .*{reason}"):
        text.decoded(mark + end.join([b"one", b"two", bad, b"four"]), "x.csv")


def test_a_torn_utf_16_file_is_refused_with_its_line():
    with pytest.raises(UsageError, match="line 2"):
        text.decoded("one\ntwo".encode("utf-16") + b"\x00", "x")
    with pytest.raises(UsageError, match="line 2"):
        text.decoded("one\n".encode("utf-16-le") + b"\x00\xd8a\x00", "x")


def test_lines_end_as_the_systems_write_them():
    assert text.lines("a\nb\r\nc\rd\n\ne\u2028\x0c\x85f\n") == ["a", "b", "c", "d", "", "e\u2028\x0c\x85f"]
    assert text.lines("") == []
    assert text.lines("a\n\ufeffb") == ["a", "b"]  # two files, joined
    assert text.unix("a\r\nb\rc\n") == "a\nb\nc\n"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_pipe_gives_the_same_lines(form, end):
    data = end.join(["/image q.png", "Größe?", ""]).encode(form)
    assert list(text.piped_lines(io.BytesIO(data))) == ["/image q.png", "Größe?"]


def test_a_line_of_a_pipe_is_there_as_soon_as_it_was_written():
    read, write = os.pipe()
    with open(read, "rb") as pipe, open(write, "wb", buffering=0) as writer:
        found = text.piped_lines(pipe)
        writer.write(b"\xef\xbb\xbfone\r\n")
        assert next(found) == "one"
        writer.write(b"caf\xe9\n")
        assert next(found) == "caf\udce9"


@pytest.mark.parametrize("form", FORMS)
def test_a_list_of_names(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / " a ").touch()
    data = " a \r\n  b.jpg \n\n \nc d.jpg\n".encode(form)
    assert text.listed(data, b"\n") == [" a ", "b.jpg", "c d.jpg"]


def test_a_list_of_names_that_end_with_nul_is_exact():
    assert text.listed(b"a\0\xef\xbb\xbf b \n\0\xff\0\0", b"\0") == ["a", "\ufeff b \n", "\udcff"]
    assert text.listed(b"\xef\xbb\xbfa\0b\r\0", b"\0") == ["a", "b\r"]
    assert text.listed("é\0b\0".encode("utf-16"), b"\0") == ["é", "b"]
    with pytest.raises(UsageError, match="-0"):
        text.listed(b"a.jpg\0b.jpg\0", b"\n")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("\ud800 b", r"\ud800 b"),
        ("a\udcff.jpg", r"a\udcff.jpg"),
        ("\ude00\ud83d", r"\ude00\ud83d"),
        ("😀 é", "😀 é"),
        ("a\u2028b\x85c\x9bd\x7f\x1b", "a\u2028b\x85c\x9bd\x7f\x1b"),
        ("\\ud800", "\\ud800"),
    ],
)
def test_json_that_every_reader_takes(value, read):
    line = text.json_text({"a": [value], value: 1})
    assert json.loads(line) == {"a": [read], read: 1}
    assert len(line.splitlines()) == 1
    assert not text.CONTROL.search(line)
    line.encode()  # nothing is half a character
    assert text.spelled(value) == read


def test_text_on_a_terminal_does_not_act():
    assert text.harmless("a\x1b[2Jb\r\n\tc\x9b\udcff") == "a�[2Jb�\n\tc�\\udcff"
