"""`illava run` on a fake session: where the prompt comes from, where the answer goes, and in what form."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import MODEL

RUN = ["run", *MODEL]


def test_text_goes_to_stdout_and_statistics_to_stderr(main):
    code, out, err = main(*RUN, "-p", "hello")
    assert (code, out) == (0, "You said hello\n")
    assert err.splitlines() == [
        "illava: downloading fake (1 kB)",
        "729 -> 361 -> 253 visual tokens | 12 tokens in 0.80 s | first token 0.31 s | peak 1.2 GB",
    ]


def test_quiet_leaves_the_answer_only(main):
    assert main(*RUN, "-q", "-p", "note this") == (0, "You said note this\n", "")


@pytest.mark.parametrize("flag", ["--stream", "--no-stream"])
def test_streaming_gives_the_same_bytes(main, flag):
    assert main(*RUN, "-q", "-p", "one two", flag)[:2] == (0, "You said one two\n")


def test_json_is_one_object_on_one_line(main, picture):
    code, out, _ = main(*RUN, "-p", "äöü", "--image", picture, "--format", "json", "--stream", "--id", "q7")
    assert code == 0
    assert out.count("\n") == 1
    record = json.loads(out)
    assert (record["id"], record["status"], record["text"]) == ("q7", "ok", "You said äöü")
    assert record["media"][0]["source"] == picture
    assert record["usage"]["visual"]["llm_kept"] == 253


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["-p", "fail"], 1, "ContextError"),
        (["-p", "x", "--image", "missing.png"], 1, "MediaError"),
        (["-p", "x", "--preset", "papr"], 2, "UsageError"),
        ([], 2, "UsageError"),
        (["-p", "x", "-o", "missing/x.json"], 1, "OutputError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_failure_in_json_is_a_record_too(main, arguments, code, kind):
    done, out, err = main(*RUN, "--format", "json", "--id", "q8", *arguments)
    assert done == code
    record = json.loads(out)
    assert (record["id"], record["status"], record["error"]["type"]) == ("q8", "error", kind)
    assert err.splitlines()[-1] == f"illava: error: {record['error']['message']}"


def test_a_schema_is_a_file(main, sessions, tmp_path):
    path = tmp_path / "s.json"
    path.write_text('{"enum": ["b", "a"]}', encoding="utf-16")
    assert main(*RUN, "-p", "x", "--schema", str(path))[0] == 0
    assert sessions[0].config.generation.json_schema == '{"enum": ["b", "a"]}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ('{\n"a": }', "line 2: is not valid JSON"),
        ("[]", "expected a JSON schema"),
        pytest.param('{"not": {}}', "not supported", marks=pytest.mark.needs("llguidance")),
    ],
)
def test_a_schema_that_is_none_is_one_line_before_a_model_is_loaded(main, sessions, tmp_path, text, words):
    path = tmp_path / "s.json"
    if text is not None:
        path.write_text(text)
    code, out, err = main(*RUN, "-p", "x", "--schema", str(path))
    assert (code, out, sessions) == (2, "", [])
    assert err.startswith(f"illava: error: --schema {path}")
    assert words in err
    assert err.count("\n") == 1


def test_half_a_character_in_a_record_is_spelled_out(main):
    code, out, _ = main(*RUN, "-p", "x", "--format", "json", "--id", "a\udcff")
    assert (code, json.loads(out)["id"]) == (0, r"a\udcff")
    _, out, _ = main(*RUN, "-p", "x", "--image", "gone\udcff.png", "--format", "json")
    assert r"gone\udcff.png" in json.loads(out)["error"]["message"]


@pytest.mark.parametrize("prompt", [[], ["-p", "-"]], ids=["none", "dash"])
def test_prompt_from_stdin(main, sessions, prompt):
    assert main(*RUN, "-q", *prompt, stdin="two\nlines\n")[0] == 0
    assert sessions[0].calls == [("two\nlines", [], [])]


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_prompt_from_stdin_as_other_programs_write_it(main, sessions, form, end):
    assert main(*RUN, "-q", stdin=f"zwei{end}größer?{end}".encode(form))[0] == 0
    assert sessions[0].calls == [("zwei\ngrößer?", [], [])]


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0", b"\0\0\0 ftyp", b"BM\xf8\0"])
def test_prompt_from_stdin_that_is_no_text(main, data):
    code, _, err = main(*RUN, stdin=data)
    assert code == 2
    assert err.startswith("illava: error: the prompt on stdin, line 1: ")
    assert "--image" in err
    assert err.count("\n") == 1


def test_media_from_stdin_leaves_it_unread(main, sessions):
    assert main(*RUN, "-p", "x", "--image", "-", stdin=b"\xff\xd8")[0] == 0
    assert sessions[0].calls == [("x", ["-"], [])]


def test_globs_expand_in_order(main, sessions, tmp_path):
    for name in ("b.png", "a.png", "c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    code, _, _ = main(*RUN, "-p", "x", "--image", f"{tmp_path}/*.png", "--video", f"{tmp_path}/*.mp4")
    assert code == 0
    images, videos = [str(tmp_path / "a.png"), str(tmp_path / "b.png")], [str(tmp_path / "c.mp4")]
    assert sessions[0].calls == [("x", images, videos)]


def test_notes_of_the_answer_are_shown(main):
    assert "illava: merging is off for so few tokens\n" in main(*RUN, "-p", "note")[2]


@pytest.mark.parametrize(("form", "expected"), [("text", "You said hi\n"), ("json", '{"id": ""')])
def test_output_file(main, tmp_path, form, expected):
    target = tmp_path / "out"
    target.write_text("older")
    code, out, _ = main(*RUN, "-p", "hi", "--format", form, "-o", str(target), "--stream")
    assert (code, out) == (0, "")
    assert target.read_text().startswith(expected)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_output_file_as_it_was(main, tmp_path):
    target = tmp_path / "out"
    target.write_text("older")
    assert main(*RUN, "-p", "fail", "-o", str(target))[0] == 1
    assert target.read_text() == "older"


def test_output_into_a_missing_folder_fails_before_the_model_loads(main, sessions, tmp_path):
    code, out, err = main(*RUN, "-p", "x", "-o", str(tmp_path / "no" / "out.txt"))
    assert (code, out) == (1, "")
    assert "does not exist" in err
    assert not sessions


def test_output_dash_is_stdout(main):
    assert main(*RUN, "-q", "-p", "hi", "-o", "-") == (0, "You said hi\n", "")
