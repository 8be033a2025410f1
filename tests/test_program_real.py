"""The installed program on real files: pictures and clips as cameras write them, both families, no fake.

A process imports torch anew each time, so there are few of them, two at once; what a process of its own
would not show runs in this one.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import illava_cli
from illava_cli.config import resolve
from tests.conftest import picture
from tests.media_files import clip_times, quadrants, write_clip, write_jpeg
from tests.processes import Process, run

PROGRAM = Path(sys.executable).with_name("illava")
FAMILIES = ("llava_onevision", "qwen2_vl", "qwen2_5_vl")
PRESETS = {
    "llava_onevision": """\
layout: grid
vision: {layers: [1, 3], r: [11, 9]}
llm: {layers: [2, 4], keep: [0.7, 0.8]}
""",
    "qwen2_vl": """\
layout: faithful
vision: {layers: [1, 3], drop: 0.2}
llm: {layers: [2, 4], keep: [0.7, 0.8], queries: last}
""",
    "qwen2_5_vl": """\
layout: faithful
vision: {layers: [1, 4], drop: 0.2}
llm: {layers: [2, 4], keep: [0.7, 0.8], queries: last}
""",
}
TOKENS = 12
QUESTION = "What is shown here?"
STATISTICS = re.compile(
    r"(\d+( -> \d+)* visual tokens \| )?\d+ tokens? in [\d.]+ s( \(stopped by --max-tokens\))? \| "
    r"first token [\d.]+ s \| peak [\d.]+ [kMG]B\n"
)
COUNTS = ("patches", "vision_kept", "llm_in", "llm_kept", "newlines_in", "newlines_kept")
TIMES = ("load_s", "media_s", "vision_s", "prefill_s", "decode_s", "ttft_s")


@pytest.fixture(autouse=True)
def _one_thread(_two_threads):
    torch.set_num_threads(1)  # as the processes have it


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures, clips and presets; the questions name them relative to it."""
    folder = tmp_path_factory.mktemp("real input")
    write_jpeg(folder / "turned.jpg", (160, 96), orientation=6)  # a portrait, stored on its side
    picture(120, 90, seed=5).save(folder / "wide.png")
    for codec in ("h264", "mpeg4"):
        write_clip(folder / f"{codec}.mp4", codec)
        write_clip(folder / f"{codec}-vfr.mp4", codec, vfr=True)
    write_clip(folder / "turned.mp4", rotation=90)
    for family, preset in PRESETS.items():
        (folder / f"{family}.yaml").write_text(preset)
    return folder


@pytest.fixture(scope="module")
def model(checkpoints, folder):
    """The flags of a small checkpoint under a schedule that merges at every place."""

    def flags(family: str) -> list[str]:
        preset = ["--preset", str(folder / f"{family}.yaml"), "--max-tokens", str(TOKENS)]
        return ["-m", checkpoints(family), *preset, "--device", "cpu"]

    return flags


@pytest.fixture
def start(model, folder, tmp_path):
    """Starts the installed command in the folder of the media, away from the repository.

    torchvision cannot be imported there, as where it is not installed.
    """
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torchvision'] = None")
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "LC_ALL": "C"}
    environment |= {"OMP_NUM_THREADS": "1"}  # more would fight over the cores with the other process
    started: list[Process] = []

    def start(command: str, family: str, *arguments: str, stdin: str = "") -> Process:
        process = Process(
            [PROGRAM, command, *model(family), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
        )
        started.append(process)
        process.stdin.write(stdin.encode())
        process.stdin.close()
        process.stdin = None  # or `communicate` would close it once more
        return process

    yield start
    for process in started:
        process.end()


def finished(process: Process) -> tuple[str, str]:
    """What a process wrote to stdout and stderr, once it has ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


@pytest.fixture
def main(model, folder, monkeypatch, capfd):
    """Runs `illava run` in this process, as if in the folder of the media: (exit code, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def run(family: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        from illava_cli.cli.app import main

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        flags = model(family)
        capfd.readouterr()  # what writing the checkpoint said
        return main(["run", *flags, *arguments]), *capfd.readouterr()

    return run


def record_of(out: str) -> dict:
    """The one object that stdout holds, checked field by field against the contract."""
    assert out.endswith("\n")
    assert out.count("\n") == 1
    record = json.loads(out)
    assert set(record) - {"notes"} == {
        *("id", "status", "text", "finish_reason", "error", "model", "preset", "seed", "config_hash"),
        *("media", "usage", "timings", "memory"),
    }
    assert all(isinstance(record[name], str) for name in ("id", "text", "model", "preset", "config_hash"))
    assert record["id"]
    assert re.fullmatch("[0-9a-f]{12}", record["config_hash"])
    assert (record["status"], record["error"], record["seed"]) == ("ok", None, 0)
    assert record["finish_reason"] in ("stop", "length")
    for medium in record["media"]:
        of_video = {"frames", "times"} if medium["kind"] == "video" else set()
        assert set(medium) == {"source", "kind", "width", "height"} | of_video
    usage = record["usage"]
    assert set(usage) == {"prompt_tokens", "completion_tokens", "visual"}
    assert 0 < usage["completion_tokens"] <= TOKENS
    assert tuple(usage["visual"]) == COUNTS
    assert all(isinstance(count, int) for count in usage["visual"].values())
    assert usage["prompt_tokens"] > usage["visual"]["llm_in"] + usage["visual"]["newlines_in"]
    assert tuple(record["timings"]) == TIMES
    assert all(seconds >= 0 for seconds in record["timings"].values())
    assert record["timings"]["ttft_s"] > 0
    assert set(record["memory"]) == {"peak_bytes"}
    assert record["memory"]["peak_bytes"] > 1_000_000
    return record


def frames_at(times: list[float], wanted: np.ndarray) -> list[int]:
    """The frames shown nearest to the wanted times; no time here lies midway between two."""
    return [int(np.abs(np.array(times) - time).argmin()) for time in wanted]


# --- processes of the installed command ----------------------------------------------------------


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
    assert visual["patches"] > visual["vision_kept"] >= visual["llm_in"] > visual["llm_kept"] > 0
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


# --- in this process -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("clip", "flags"),
    [
        ("h264", ["--num-frames", "5"]),
        ("mpeg4", ["--num-frames", "5"]),
        ("h264-vfr", ["--num-frames", "5"]),
        ("mpeg4-vfr", ["--fps", "4", "--start", "0.5", "--end", "2.0"]),
    ],
)
def test_frames_are_listed_as_they_were_read(main, family, clip, flags):
    code, out, err = main(family, "--video", f"{clip}.mp4", *flags, "-p", QUESTION, "--format", "json")
    assert code == 0, err
    (medium,) = record_of(out)["media"]
    assert (medium["width"], medium["height"]) == (128, 96)
    times = clip_times(24, vfr="vfr" in clip)
    if flags[0] == "--fps":
        first = min(time for time in times if time >= 0.5)
        last = max(time for time in times if time <= 2.0)
        wanted = np.arange(first, last + 1e-9, 1 / 4)
    else:
        wanted = np.linspace(0, times[-1], 5)
    assert medium["frames"] == frames_at(times, wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_orientation_of_a_picture_gives_the_same_answer(main, folder, family):
    """EXIF says how to turn it: the same pixels, stored in another way, are the same picture."""
    upright = quadrants((96, 160))
    upright.save(folder / "upright.png")
    for tag, stored in {3: upright.rotate(180), 8: upright.rotate(-90, expand=True)}.items():
        exif = stored.getexif()
        exif[0x0112] = tag
        stored.save(folder / f"orientation{tag}.png", exif=exif)
    records = []
    for name in ("upright.png", "orientation3.png", "orientation8.png"):
        code, out, err = main(family, "--image", name, "-p", QUESTION, "--format", "json")
        assert code == 0, err
        records.append(record_of(out))
    assert [(m["width"], m["height"]) for r in records for m in r["media"]] == [(96, 160)] * 3
    assert len({record["text"] for record in records}) == 1
    assert records[0]["usage"] == records[1]["usage"] == records[2]["usage"]


@pytest.mark.parametrize("family", FAMILIES)
def test_several_media_in_the_order_given(main, family):
    media = ["--image", "wide.png", "--image", "turned.jpg", "--video", "h264.mp4", "--num-frames", "2"]
    prompt = "Compare <image> with <image>, then <video>."
    code, out, err = main(family, *media, "-p", prompt, "--format", "json")
    assert code == 0, err
    record = record_of(out)
    assert [m["source"] for m in record["media"]] == ["wide.png", "turned.jpg", "h264.mp4"]
    swapped = ["--image", "turned.jpg", "--image", "wide.png", *media[4:]]
    other = record_of(main(family, *swapped, "-p", prompt, "--format", "json")[1])
    assert [m["source"] for m in other["media"]] == ["turned.jpg", "wide.png", "h264.mp4"]
    assert other["usage"]["visual"] == record["usage"]["visual"]
    assert other["text"] != record["text"]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_only(main, family):
    code, out, err = main(family, "-p", QUESTION, "--format", "json")
    assert code == 0, err
    record = record_of(out)
    assert record["media"] == []
    assert set(record["usage"]["visual"].values()) == {0}
    assert STATISTICS.fullmatch(err)
    assert "visual" not in err


@pytest.mark.parametrize("kind", ["image", "video"])
def test_media_through_a_pipe(main, folder, kind):
    name = {"image": "turned.jpg", "video": "mpeg4.mp4"}[kind]
    flags = ["--num-frames", "3", "-p", QUESTION, "--format", "json"]
    piped = main("llava_onevision", f"--{kind}", "-", *flags, stdin=(folder / name).read_bytes())
    assert piped[0] == 0, piped[2]
    ours, named = record_of(piped[1]), record_of(main("llava_onevision", f"--{kind}", name, *flags)[1])
    assert ours["media"] == [named["media"][0] | {"source": "stdin"}]
    assert (ours["text"], ours["usage"]) == (named["text"], named["usage"])


def test_the_same_question_again_is_the_same_answer(main):
    question = ["--image", "wide.png", "-p", QUESTION, "--format", "json", "--temperature", "1"]
    first, again = (record_of(main("qwen2_vl", *question, "--seed", "0")[1]) for _ in range(2))
    for name in ("text", "usage", "config_hash", "media"):
        assert first[name] == again[name]
    assert first["id"] != again["id"]
    other = json.loads(main("qwen2_vl", *question, "--seed", "1")[1])
    assert other["seed"] == 1
    assert other["config_hash"] != first["config_hash"]
    assert other["text"] != first["text"]


def test_the_printed_settings_are_the_same_run(main, checkpoints, folder, capfd):
    """`illava config show` prints a file that `-m` takes; it has the same hash."""
    from illava_cli.cli.app import main as program

    flags = ["-m", checkpoints("qwen2_vl"), "--preset", str(folder / "qwen2_vl.yaml"), "--max-tokens", "7"]
    assert program(["config", "show", *flags]) == 0
    shown = capfd.readouterr().out
    (folder / "shown.yaml").write_text(shown)
    digest = resolve(str(folder / "shown.yaml"), environ={}).hash()
    assert shown.startswith(f"# hash: {digest}\n")


@pytest.mark.needs("no torchvision")
def test_torchvision_is_not_needed(main):
    assert main("llava_onevision", "--image", "wide.png", "--video", "h264.mp4", "-p", QUESTION)[0] == 0
    assert "torchvision" not in sys.modules
