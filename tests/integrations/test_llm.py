"""The plugin for `llm`: as its command in processes, and what of its messages is asked."""

import json
import os
import sys
import tomllib

import pytest

from tests.needs import require
from tests.processes import ROOT, run

require("llm")
llm = pytest.importorskip("llm", reason="needs llm: pip install 'illava[llm]'")

PICTURE, CLIP = (str(ROOT / "illava_cli" / "assets" / name) for name in ("shapes.jpg", "shapes.mp4"))


@pytest.fixture
def model():
    from illava_cli.integrations.llm.model import Illava

    return Illava("tiny")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs `llm`, which finds the plugin as it is declared, whatever is installed."""
    folder = tmp_path_factory.mktemp("llm")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = folder / "declared-0.dist-info"
    declared.mkdir()
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 0\n")
    lines = [f"{name} = {value}\n" for name, value in project["entry-points"]["llm"].items()]
    (declared / "entry_points.txt").write_text("".join(["[llm]\n", *lines]))
    environment = os.environ | {"LLM_USER_PATH": str(folder / "user")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])

    def call(*arguments, **options):
        return run([sys.executable, "-m", "llm", *arguments], env=environment, cwd=folder, **options)

    return call


def test_its_models_are_listed(command):
    done = command("models", "--options", "-q", "illava/tiny")
    assert done.returncode == 0, done.stderr
    assert "illava/tiny" in done.stdout
    assert "preset: str" in done.stdout
    assert "schemas" in done.stdout
    listed = command("models").stdout
    for path in (ROOT / "configs" / "models").glob("*.yaml"):
        assert f"illava/{path.stem}\n" in listed


def test_a_question_and_another_in_a_later_process(command):
    """The second goes on from the first's words and picture, which the log has."""
    done = command("-m", "illava/tiny", "What shape is the red one?", "-a", PICTURE, "-s", "Be brief.")
    assert (done.returncode, done.stdout, done.stderr) == (0, "circle\n", "")
    done = command("-c", "How many shapes are there?", "--no-stream", "-o", "seed", "3", "--usage")
    assert done.returncode == 0, done.stderr
    from illava_cli import load

    chat = load("tiny", seed=3).chat("Be brief.")
    chat.ask("What shape is the red one?", [PICTURE])
    answer = chat.ask("How many shapes are there?")
    assert done.stdout == answer.text + "\n"
    read = answer.usage.prompt_tokens + answer.usage.cached_tokens
    assert f"{read} input, {answer.usage.completion_tokens} output" in done.stderr
    (logged,) = json.loads(command("logs", "-n", "1", "--json").stdout)
    assert logged["model"] == "illava/tiny"
    assert logged["response_json"]["finish_reason"] == "stop"


def test_a_clip_and_the_options(command):
    asked = ["-m", "illava/tiny", "Which way does the circle move?", "-a", CLIP]
    done = command(*asked, "-o", "num_frames", "8", "-o", "preset", "off", "--usage")
    assert (done.returncode, done.stdout) == (0, "right\n")
    assert '"vision_kept": 1152' in done.stderr


@pytest.mark.needs("llguidance")
def test_a_schema(command):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}}
    schema |= {"required": ["n"], "additionalProperties": False}
    asked = ["-m", "illava/tiny", "How many shapes?", "-a", PICTURE, "--schema", json.dumps(schema)]
    done = command(*asked, "-o", "max_tokens", "40")
    assert done.returncode == 0, done.stderr
    assert 0 <= json.loads(done.stdout)["n"] <= 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "-o", "preset", "papr"], "did you mean 'paper'"),
        (["x", "-o", "max_tokens", "0"], "max_tokens"),
        (["x", "-o", "heat", "0"], "heat"),
        (["x", "--at", "gone.jpg", "image/jpeg"], "gone.jpg"),
        (["x", "--at", __file__, "audio/wav"], "audio/wav"),
    ],
)
def test_a_mistake_is_a_line(command, arguments, words):
    done = command("-m", "illava/tiny", *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_loaded_to_be_listed():
    code = (
        "import sys, illava_cli.integrations.llm as it; found = []; it.register_models(found.append); "
        "assert found; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_conversation_keeps_its_cache(model):
    """In one process only what is new is read; it is streamed."""
    talk = model.conversation()
    first = talk.prompt("What shape is the red one?", attachments=[llm.Attachment(path=PICTURE)])
    assert first.text() == "circle"
    second = talk.prompt("How many shapes are there?")
    assert len(pieces := list(second)) >= 1
    assert "".join(pieces) == second.text()
    assert second.response_json["usage"]["cached_tokens"] > 100
    other = model.conversation()
    assert other.prompt("Hello?").response_json is None
    later = talk.prompt("And now?", preset="off")
    later.text()
    assert later.response_json["preset"] == "off"
    assert later.response_json["usage"]["cached_tokens"] > second.response_json["usage"]["cached_tokens"]


@pytest.mark.needs("llguidance")
def test_whoever_stops_listening_stops_the_answer(model):
    schema = {"type": "array", "items": {"const": 1}, "minItems": 200}
    response = model.prompt("What?", max_tokens=600, schema=schema)
    iterator = iter(response)
    next(iterator)
    iterator.close()
    (session,) = model._sessions.values()
    with session.runner.alone():  # it is free again
        pass


def test_messages_are_rounds():
    from llm.parts import AttachmentPart, Message, TextPart, ToolCallPart

    from illava_cli.errors import UsageError
    from illava_cli.integrations.llm.rounds import rounds

    def message(role, *parts):
        return Message(role, [TextPart(part) if isinstance(part, str) else part for part in parts])

    def attached(**place):
        return AttachmentPart(llm.Attachment(**place))

    clip = attached(type="video/mp4", url="http://h/c.mp4")
    held = attached(type="image/png", content=b"bytes")
    system, found = rounds(
        [
            message("system", "Brief."),
            message("user", "One: <image>?", held, clip),
            message("assistant", "Yes."),
            message("user", "Two", attached(type="image/jpeg", path="~odd.jpg")),
            message("user", "<image>s?"),
        ]
    )
    assert system == "Brief."
    first, second = found
    assert (first.prompt, first.answer) == ("One: <image>?", "Yes.")
    assert (first.media("image"), first.media("video")) == ([b"bytes"], ["http://h/c.mp4"])
    assert (second.prompt, second.media("image"), second.answer) == ("Two<image>s?", ["./~odd.jpg"], None)
    for messages, words in (
        ([message("user", "?"), message("assistant", "!")], "nothing is asked"),
        ([message("assistant", "!")], "begins with an answer"),
        ([message("tool", "?")], "leave out tools"),
        ([message("user", "?"), message("assistant", ToolCallPart(name="f"))], "another kind than text"),
        ([message("user", attached(type="audio/wav", content=b"x"))], "not audio files"),
    ):
        with pytest.raises(UsageError, match=words):
            rounds(messages)
