"""`illava chat`: what each line does, on a fake session; as a class, from a pipe and at a terminal."""

from __future__ import annotations

import json
import os

import pytest

from illava_cli.cli.chat import talk
from illava_cli.cli.messages import Messages
from illava_cli.cli.repl import COMMANDS, Repl
from illava_cli.config import resolve
from illava_cli.errors import ContextError, MediaError, OutputError, UsageError
from tests.cli.conftest import MODEL
from tests.cli.fakes import FakeSession

CHAT = ["chat", *MODEL]


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def repl(sessions, written) -> Repl:
    session = FakeSession(resolve("qwen2-vl-2b", environ={}), on_note=lambda note: None)
    return Repl(session, Messages(), written.append)


def test_a_question_is_answered(repl, written):
    repl.handle("  hello there \n")
    assert "".join(written) == "You said hello there\n"
    assert [message["role"] for message in repl.chat.messages] == ["user", "assistant"]


def test_empty_lines_do_nothing(repl, written):
    repl.handle("  \n")
    assert (written, repl.chat.messages) == ([], [])


def test_media_go_with_the_next_question_only(repl, picture, capsys):
    repl.handle(f"/image {picture}")
    assert capsys.readouterr().err == f"attached to the next question: {picture}\n"
    repl.handle("what is it?")
    repl.handle("and now?")
    assert repl.session.calls == [("what is it?", [picture], []), ("and now?", [], [])]


@pytest.mark.parametrize("form", ["{}", "'{}'", '"{}"', "escaped"])
def test_paths_with_spaces(repl, picture, form):
    written = picture.replace(" ", "\\ ") if form == "escaped" else form.format(picture)
    repl.handle(f"/video {written}")
    assert repl.pending["video"] == [picture]


def test_several_paths_globs_home_and_urls(repl, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c d.png"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    repl.handle("/image ~/?.png '~/c d.png' https://example.org/e.png")
    names = [source.rsplit("/", 1)[1] for source in repl.pending["image"]]
    assert names == ["a.png", "b.png", "c d.png", "e.png"]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("/image missing.png", MediaError, "no such file"),
        ("/image", UsageError, "needs a path"),
        ("/image -", UsageError, "stdin"),
        ("/image 'open", UsageError, "not closed"),
        ("/imgae x", UsageError, "'/image'"),
        ("/merge maybe", UsageError, "on or off"),
        ("/set generation.max_token=3", UsageError, "'max_tokens'"),
        ("/set model.dtype=float16", UsageError, "reload"),
        ("/save x.pdf", UsageError, r"\.json, \.md, \.txt"),
        ("/save a b.md", UsageError, "one file name"),
        ("/save missing/x.md", OutputError, "does not exist"),
        ("fail", ContextError, "too long"),
    ],
)
def test_what_fails_says_so_and_changes_nothing(repl, line, error, message):
    before = repl.session.config
    with pytest.raises(error, match=message):
        repl.handle(line)
    assert repl.session.config == before
    assert repl.chat.messages == []
    assert repl.pending == {"image": [], "video": []}


def test_a_failed_turn_drops_its_media_and_says_so(repl, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    repl.handle(f"/image {broken}")
    with pytest.raises(MediaError):
        repl.handle("what is it?")
    assert f"no longer attached: {broken}" in capsys.readouterr().err
    repl.handle("hello")
    assert repl.session.calls == [("hello", [], [])]


def test_system_only_before_the_first_question(repl):
    repl.handle("/system Be brief.")
    assert repl.chat.system == "Be brief."
    repl.handle("hello")
    with pytest.raises(UsageError, match="/clear"):
        repl.handle("/system Be long.")
    repl.handle("/clear")
    repl.handle("/system Be long.")
    assert repl.chat.system == "Be long."


def test_set_changes_and_shows_settings(repl, capsys):
    repl.handle("/set generation.max_tokens=3")
    assert repl.session.config.generation.max_tokens == 3
    capsys.readouterr()
    repl.handle("/set")
    assert "generation.max_tokens=3\n" in capsys.readouterr().err


def test_merge(repl, capsys):
    repl.handle("/merge off")
    assert repl.session.merging is False
    repl.handle("/merge on")
    assert repl.session.merging is True
    repl.handle("/merge")
    assert capsys.readouterr().err.splitlines()[-1] == "merging is on"


def test_clear_forgets_everything(repl, picture):
    repl.handle("hello")
    repl.handle(f"/image {picture}")
    repl.handle("/clear")
    assert (repl.chat.messages, repl.answers, repl.pending["image"]) == ([], [], [])


def test_stats(repl, capsys):
    repl.handle("/stats")
    assert capsys.readouterr().err == "no answer yet\n"
    repl.handle("hello")
    repl.handle("/stats")
    shown = capsys.readouterr().err
    for part in ("729 patches", "361 after the tower", "253 kept", "300 in, 12 out", "first token 0.31 s"):
        assert part in shown
    for part in ("400 tokens in the first layer, 250 in the last", "400 of 32768 tokens", "28 -> 20"):
        assert part in shown


def test_help_names_every_command(repl, capsys):
    repl.handle("/help")
    shown = capsys.readouterr().err
    assert all(name in shown for name in COMMANDS)
    assert max(map(len, shown.splitlines())) <= 80


def test_save_json(repl, picture, tmp_path):
    repl.handle("/system Be brief.")
    repl.handle(f"/image {picture}")
    repl.handle("hello")
    repl.handle(f"/save {tmp_path}/my chat.json".replace("my chat", "'my chat'"))
    saved = json.loads((tmp_path / "my chat.json").read_text())
    assert saved["system"] == "Be brief."
    assert saved["messages"][0] == {"role": "user", "content": "hello", "images": [picture], "videos": []}
    assert saved["records"][0]["text"] == "You said hello"


@pytest.mark.parametrize("suffix", ["md", "txt"])
def test_save_text(repl, picture, tmp_path, suffix):
    repl.handle(f"/image {picture}")
    repl.handle("hello")
    repl.handle(f"/save {tmp_path}/chat.{suffix}")
    saved = (tmp_path / f"chat.{suffix}").read_text()
    assert all(part in saved for part in (picture, "hello", "You said hello", "Qwen/Qwen2-VL-2B-Instruct"))


def test_every_command_has_its_method(repl):
    assert all(callable(getattr(repl, f"_{name[1:]}")) for name in COMMANDS)


# --- from a pipe ---------------------------------------------------------------------------------


def test_piped_answers_are_all_that_stdout_gets(main, picture):
    code, out, err = main(*CHAT, "--image", picture, stdin="hello\n\n/stats\n/merge off\nagain")
    assert (code, out) == (0, "You said hello\nYou said again\n")
    assert "Ctrl-D" not in err


def test_piped_commands_reach_the_session(main, sessions, picture):
    code, out, _ = main(*CHAT, "-q", "--image", picture, stdin="one\n/exit\ntwo\n")
    assert (code, out) == (0, "You said one\n")
    assert sessions[0].calls == [("one", [picture], [])]


@pytest.mark.parametrize(
    ("lines", "code"),
    [("fail\nafter\n", 1), ("/nothing\nafter\n", 2), ("/image missing.png\nafter\n", 1)],
)
def test_a_failing_line_is_reported_and_the_rest_goes_on(main, lines, code):
    done, out, err = main(*CHAT, "-q", stdin=lines)
    assert (done, out) == (code, "You said after\n")
    assert err.startswith("illava: error: ")
    assert err.count("\n") == 1


def test_a_missing_image_on_the_command_line_fails_before_the_model_loads(main, sessions):
    code, out, err = main(*CHAT, "--image", "missing.png", stdin="hello\n")
    assert (code, out, err) == (1, "", "illava: error: missing.png: no such file; check the path\n")
    assert not sessions


def test_the_system_flag_is_the_chats_system_prompt(main, tmp_path):
    target = tmp_path / "x.json"
    main(*CHAT, "-s", "Be brief.", stdin=f"hello\n/save {target}\n")
    assert json.loads(target.read_text())["system"] == "Be brief."


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_piped_lines_as_other_programs_write_them(main, sessions, picture, form, end):
    lines = [f"/image {picture}", "what is it?", "größer?"]
    code, _, err = main(*CHAT, "-q", stdin=end.join(lines).encode(form))
    assert (code, err) == (0, "")
    assert sessions[0].calls == [("what is it?", [picture], []), ("größer?", [], [])]


def test_a_piped_line_that_is_no_text_is_reported_and_the_rest_goes_on(main, sessions):
    code, out, err = main(*CHAT, "-q", stdin=b"one\na\0b\ntwo\n")
    assert (code, out) == (2, "You said one\nYou said two\n")
    assert err == "illava: error: stdin, line 2: holds a NUL byte, as no text does\n"


def test_a_file_whose_name_is_no_utf_8_can_be_attached(main, sessions, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write(b"png")
    assert main(*CHAT, "-q", stdin=b"/image " + name + b"\nwhat?\n")[0] == 0
    assert sessions[0].calls == [("what?", [os.fsdecode(name)], [])]
    code, _, _ = main(*CHAT, stdin=b"/image " + name + f"\nwhat?\n/save {tmp_path}/x.json\n".encode())
    assert code == 0
    saved = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(saved)["messages"][0]["images"] == [f"{tmp_path}/caf\\udce9.png"]


def test_what_a_name_holds_does_not_act_on_a_terminal(repl, tmp_path, capsys):
    name = tmp_path / "a\x1b[2J.png"
    name.write_bytes(b"png")
    repl.attach("image", [str(name)])
    assert capsys.readouterr().err == f"attached to the next question: {tmp_path}/a\ufffd[2J.png\n"


# --- the loop at a terminal, without the terminal ------------------------------------------------


def typed(*lines):
    """A reader of these lines; an exception among them is raised."""
    left = iter(lines)

    def read() -> str:
        line = next(left, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    return read


def test_ctrl_d_leaves(repl):
    assert talk(repl, typed("hello")) == 0


def test_ctrl_c_twice_in_a_row_leaves_with_a_hint(repl, capsys):
    read = typed(KeyboardInterrupt(), "hello", KeyboardInterrupt(), KeyboardInterrupt(), "never")
    assert talk(repl, read) == 0
    assert [call[0] for call in repl.session.calls] == ["hello"]
    assert capsys.readouterr().err.count("Ctrl-C again") == 2


def test_failures_at_a_terminal_do_not_end_the_chat_nor_its_exit_code(repl, capsys):
    assert talk(repl, typed("fail", "hello")) == 0
    assert "illava: error: the prompt is too long" in capsys.readouterr().err
    assert [call[0] for call in repl.session.calls] == ["fail", "hello"]
