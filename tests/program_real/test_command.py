"""Processes of the installed command: they stream, answer in JSON, chat through a pipe."""

from __future__ import annotations

import json
import sys

import pytest

import illava_cli
from tests.processes import Process, run
from tests.program_real.records import FAMILIES, QUESTION, STATISTICS, TOKENS, record_of


def finished(process: Process) -> tuple[str, str]:
    """What a process wrote to stdout and stderr, once it has ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_question_as_text_as_json_and_from_python(start, checkpoints, folder, monkeypatch, family):
    """With a picture and a clip that are stored on their side, streamed and not."""
    media = ["--image", "turned.jpg", "--video", "turned.mp4", "--num-frames", "4"]
    as_text = start("run", family, *media, "--stream", stdin=QUESTION)
    as_json = start("run", family, *media, "-p", QUESTION, "--format", "json", "--id", "q1")
    text, text_err = finished(as_text)
    out, json_err = finished(as_json)

    record = record_of(out)
    assert record["id"] == "q1"
    assert record["media"] == [
        {"source": "turned.jpg", "kind": "image", "width": 96, "height": 160},
        {
            **{"source": "turned.mp4", "kind": "video", "width": 96, "height": 128},
            **{"frames": [0, 8, 15, 23], "times": [0.0, 0.667, 1.25, 1.917]},
        },
    ]
    visual = record["usage"]["visual"]
    assert visual["patches"] > visual["vision_kept"] >= visual["llm_in"] >= visual["llm_kept"] > 0
    assert (visual["llm_in"] > visual["llm_kept"]) == (family != "gemma4")  # in whose decoder nothing merges
    assert visual["newlines_in"] == visual["newlines_kept"]
    assert (visual["newlines_in"] > 0) == (family == "llava_onevision")
    assert text == record["text"] + "\n"
    assert STATISTICS.fullmatch(text_err)
    assert STATISTICS.fullmatch(json_err)
    assert "\x1b" not in out + text_err + json_err

    monkeypatch.chdir(folder)
    preset = str(folder / f"{family}.yaml")
    session = illava_cli.load(
        checkpoints(family), preset=preset, device="cpu", num_frames=4, max_tokens=TOKENS
    )
    answer = session.ask(QUESTION, images=["turned.jpg"], videos=["turned.mp4"])
    ours = json.loads(json.dumps(answer.record()))
    for name in ("text", "finish_reason", "usage", "media", "model", "preset", "config_hash"):
        assert ours[name] == record[name], name


def test_chat_through_a_pipe(start, folder, model):
    lines = [
        *("/image turned.jpg", QUESTION, "/stats"),
        *("/merge off", "/image 'wide.png'", "/set generation.max_tokens=5", "And this one?"),
        "/save chat.json",
    ]
    out, err = finished(start("chat", "llava_onevision", stdin="\n".join(lines)))
    assert "\x1b" not in err
    saved = json.loads((folder / "chat.json").read_text(encoding="utf-8"))
    first, second = saved["records"]
    assert out == f"{first['text']}\n{second['text']}\n"

    messages = saved["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert [message["images"] for message in messages] == [["turned.jpg"], [], ["wide.png"], []]
    assert [m["content"] for m in messages] == [QUESTION, first["text"], "And this one?", second["text"]]
    assert saved["model"] == model("llava_onevision")[1]
    for record in (first, second):
        record_of(json.dumps(record) + "\n")
    merged, whole = first["usage"]["visual"], second["usage"]["visual"]
    assert merged["patches"] > merged["vision_kept"] > merged["llm_kept"]
    assert whole["patches"] == whole["vision_kept"] >= whole["llm_in"] == whole["llm_kept"]
    assert second["usage"]["completion_tokens"] <= 5

    said = err.splitlines()
    assert said[0] == "attached to the next question: turned.jpg"
    counts = "{patches} patches -> {vision_kept} after the tower -> {llm_in} into the LLM -> {llm_kept} kept"
    assert said[1] == "visual tokens  " + counts.format(**merged)
    assert said[-5:] == [
        "merging is off for new media",
        "attached to the next question: wide.png",
        "set generation.max_tokens=5",
        "illava: merging was off",
        "saved chat.json",
    ]


def test_the_package_imports_without_torch():
    heavy = "{'torch', 'transformers', 'torchvision', 'PIL', 'av', 'decord'} & set(sys.modules)"
    done = run(
        [sys.executable, "-c", f"import sys, illava_cli; illava_cli.Config(); sys.exit(str({heavy} or ''))"]
    )
    assert done.stderr.strip() == ""
