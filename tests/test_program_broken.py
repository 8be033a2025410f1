"""The program on bad input: one line that says what is wrong, the right exit code, nothing on stdout.

Nearly all of it runs in this process on small real checkpoints; what only a process shows (a full file
system, an environment that is read when a library is imported, closed streams) runs the installed command.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from illava_cli.media import read_video
from tests import processes
from tests.builders import write_llava_onevision, write_qwen2_vl
from tests.media_files import cut_off, frame_number, numbered_frame, quadrants, write_clip, write_jpeg
from tests.needs import skip

PROGRAM = Path(sys.executable).with_name("illava")
OFF = ["--preset", "off", "--max-tokens", "4", "--device", "cpu"]
ASK = ["--prompt", "What is shown?"]
LLAVA, QWEN = "llava_onevision", "qwen2_vl"


@pytest.fixture(autouse=True)
def _quiet(quiet, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def main(monkeypatch, capfd, tmp_path):
    """Runs the program in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        from illava_cli.cli.app import main

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfd.readouterr()
        code = main(list(arguments))
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def run(main, checkpoints):
    """`illava run` on a small checkpoint with merging off."""

    def run(*arguments: str, family: str = LLAVA) -> tuple[int, str, str]:
        return main("run", "-m", checkpoints(family), *OFF, *arguments)

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Good and bad media."""
    folder = tmp_path_factory.mktemp("media")
    good = write_jpeg(folder / "good.jpg", (96, 64))
    (folder / "empty.jpg").touch()
    cut_off(good, folder / "truncated.jpg", 0.6)
    (folder / "text.jpg").write_text("This is no picture.\n")
    quadrants((96, 64)).save(folder / "png.jpg", "PNG")
    (folder / "bomb.png").write_bytes(bomb(60_000, 60_000))

    clip = write_clip(folder / "good.mp4", frames=60)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no clip.\n")
    write_clip(folder / "sound.mp4", audio_only=True)
    cut_off(clip, folder / "cut.mp4", 0.8)
    write_clip(folder / "one.mp4", frames=1)
    data = clip.read_bytes()
    (folder / "none.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    (folder / "codec.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    return folder


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is `width` by `height` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def one_line(done: tuple[int, str, str], code: int, *parts: str, warnings: int = 0) -> None:
    """Asserts exit code, an empty stdout, and one line of error on stderr, behind so many warnings."""
    assert done[:2] == (code, ""), done
    *before, error = done[2].splitlines()
    assert len(before) == warnings, done
    assert all(line.startswith("illava: warning: ") for line in before), done
    assert error.startswith("illava: error: "), done
    assert done[2].endswith(error + "\n")
    assert "Traceback" not in error
    for part in parts:
        assert part in error, done


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.jpg", "no such file"),
        ("empty.jpg", "empty"),
        ("truncated.jpg", "damaged or cut off"),
        ("text.jpg", "text file"),
        ("bomb.png", "over the limit of 100 million"),
        ("good.mp4", "--video"),
        ("", "empty"),
        ("data:image/png;base64," + "A" * 9000, "<data:image/png;base64>: is in no image format"),
        ("data:image/png;base64," + "!" * 9000, "<data:image/png;base64>: is not valid base64"),
        ("x" * 9000, "File name too long"),
    ],
)
def test_bad_picture(run, files, name, part):
    source = str(files / name) if name.endswith((".jpg", ".png", ".mp4")) else name
    done = run("--image", source, *ASK, "-o", "answer.txt")
    one_line(done, 1, part)
    assert len(done[2]) < 500
    assert os.listdir() == []


def test_the_first_bad_picture_among_good_ones_is_named(run, files):
    images = [part for name in ("good.jpg", "text.jpg") for part in ("--image", str(files / name))]
    one_line(run(*images, *ASK), 1, str(files / "text.jpg"))


def test_a_picture_with_the_wrong_extension_works(run, files):
    code, out, err = run("--image", str(files / "png.jpg"), *ASK)
    assert (code, err.count("\n")) == (0, 1)
    assert out == run("--image", str(files / "png.jpg"), *ASK, "--no-stream")[1] != ""


def test_a_failure_in_json_is_one_record_and_the_file_is_not_made(run, files):
    code, out, err = run("--image", str(files / "text.jpg"), *ASK, "--format", "json", "-o", "answer.json")
    assert code == 1
    assert out.count("\n") == err.count("\n") == 1
    record = json.loads(out)
    assert (record["status"], record["text"]) == ("error", "")
    assert err == f"illava: error: {record['error']['message']}\n"
    assert os.listdir() == []


def test_pil_says_nothing_on_stderr(tmp_path):
    """It logs this damage too, and Python prints what is logged without a handler."""
    path = tmp_path / "channels.tiff"
    Image.new("RGB", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    entry = struct.pack("<HHI", 277, 3, 1)  # SamplesPerPixel, one SHORT
    place = data.index(entry) + len(entry)
    data[place : place + 2] = struct.pack("<H", 2048)
    path.write_bytes(data)
    script = (
        "import sys\nfrom illava_cli.errors import MediaError\nfrom illava_cli.media import read_image\n"
        "try:\n    read_image(sys.argv[1])\nexcept MediaError as error:\n    print(error)"
    )
    done = processes.run([sys.executable, "-c", script, path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "looks like a TIFF image" in done.stdout


# --- clips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [LLAVA, QWEN])
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.mp4", "no such file"),
        ("empty.mp4", "empty"),
        ("text.mp4", "text file"),
        ("sound.mp4", "no video stream"),
        ("none.mp4", "no frame that decodes"),
        ("codec.mp4", "format not known"),
        ("good.jpg", "--image"),
    ],
)
def test_bad_clip(run, files, name, part, family):
    one_line(run("--video", str(files / name), *ASK, "-o", "answer.txt", family=family), 1, part)
    assert os.listdir() == []


@pytest.mark.parametrize("family", [LLAVA, QWEN])
def test_a_clip_that_is_cut_off_is_used_as_far_as_it_goes(run, files, family):
    flags = ["--video", str(files / "cut.mp4"), *ASK, "--format", "json", "--num-frames", "6"]
    code, out, err = run(*flags, family=family)
    assert code == 0, err
    *warnings, _ = err.splitlines()
    assert all(line.startswith("illava: warning: ") for line in warnings)
    assert "is cut off" in warnings[0]
    frames = json.loads(out)["media"][0]["frames"]
    assert len(frames) == 6
    assert frames[0] == 0
    assert 20 < frames[-1] < 59

    code, out, err = run(*flags, "-q", family=family)
    assert (code, err) == (0, "")
    assert json.loads(out)["media"][0]["frames"] == frames


@pytest.mark.parametrize("family", [LLAVA, QWEN])
def test_a_clip_of_one_frame_works(run, files, family):
    code, out, err = run("--video", str(files / "one.mp4"), *ASK, "--format", "json", family=family)
    assert (code, err.count("\n")) == (0, 1)
    assert json.loads(out)["media"][0]["frames"] == [0]


@pytest.mark.parametrize("size", [(16, 64), (48, 64), (72, 48)])
def test_narrow_clips_show_their_own_pixels(run, tmp_path, size):
    """decord gives frames of these widths with another number of channels."""
    path = write_clip(tmp_path / "narrow.mp4", frames=6, size=size)
    medium = read_video(path)
    assert [frame.shape for frame in medium.frames] == [(size[1], size[0], 3)] * 6
    if size[0] > 16:
        assert [frame_number(frame) for frame in medium.frames] == list(range(6))
        assert abs(medium.frames[5].astype(int) - numbered_frame(5, size)).mean() < 20
    code, _, err = run("--video", str(path), *ASK)
    assert (code, err.count("\n")) == (0, 1)


@pytest.mark.parametrize("table", [b"stts", b"stss"])
def test_a_clip_with_a_damaged_table(tmp_path, table):
    """decord reserves memory for the absurd number of frames of the first, and ends the process where it
    cannot; of the second, which is to say where keyframes are, it complains on stderr by itself."""
    path = write_clip(tmp_path / "clip.mp4", size=(64, 48))
    data = bytearray(path.read_bytes())
    data[data.index(table) + 12] = 0xDA  # the first number in the table
    path.write_bytes(data)
    script = (
        "import sys; from illava_cli.media import read_video; "
        "print(len(read_video(sys.argv[1], num_frames=4).frames))"
    )
    done = processes.run([sys.executable, "-c", script, path])
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: {id: x}\npreset: [off\nmedia: {}\n", ["line 3"]),
        ("model:\n\tid: x\n", ["line 2"]),
        ("model: {id: x}\ngeneration: {max_token: 3}\n", ["generation.max_token", "'max_tokens'"]),
        ("model: {id: x}\nvison: {}\n", ["'vison'", "'vision'"]),
        ("- model\n", ["mapping"]),
        ("preset: off\n", ["model.id"]),
        ("model: {id: x}\ngeneration: {max_tokens: 0}\n", ["generation.max_tokens"]),
    ],
)
def test_bad_yaml(main, tmp_path, text, parts):
    (tmp_path / "mine.yaml").write_text(text)
    one_line(main("run", "-m", "mine.yaml", *ASK), 2, "mine.yaml", *parts)


def test_missing_yaml(main):
    one_line(main("run", "-m", "missing.yaml", *ASK), 2, "missing.yaml", "No such file")


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--preset", "vidoe"], "'video'"),
        (["--preset", "missing.yaml"], "missing.yaml"),
        (["--format", "xml"], "text or json"),
        (["--num-frames", "4", "--fps", "1"], "exclude"),
        (["--start", "2", "--end", "1"], "before"),
        (["--set", "generation.temprature=1"], "'temperature'"),
        (["--set", "vision.layer=[1]"], "'layers'"),
        (["--set", "nothing=1"], "'nothing'"),
        (["--set", "llm.keep"], "name=value"),
        (["--set", "llm={layers: [2], keep: 1.5}"], "llm.keep"),
        (["--device", "gpu"], "cuda:N"),
        (["--dtype", "int8"], "'bfloat16'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flag(run, files, flags, part):
    one_line(run("--video", str(files / "good.mp4"), *ASK, *flags, "-o", "answer.txt"), 2, part)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("llava-onevision-7", "'llava-onevision-7b'"),
        ("random:qwen2-vl-toi", "'qwen2-vl-toy'"),
        ("./missing", "unknown model './missing'"),
        (".", "no config.json"),
    ],
)
def test_unknown_model(main, name, part):
    one_line(main("run", "-m", name, *OFF, *ASK), 2, part)


@pytest.mark.parametrize(
    ("family", "settings", "part"),
    [
        (LLAVA, ["vision={layers: [1], r: 36}"], "36 of the 36"),
        (LLAVA, ["vision={layers: [7], r: 1}"], "0 to 6"),
        (LLAVA, ["llm={layers: [6], keep: 0.5}"], "1 to 5"),
        (LLAVA, ["layout=grid", "vision={layers: [1], r: 5}"], "25 or 36"),
        (LLAVA, ["vision={layers: [1], drop: 0.2}"], "Qwen2-VL"),
        (QWEN, ["layout=grid", "vision={layers: [1], drop: 0.2}"], "grid"),
        (QWEN, ["layout=faithful", "vision={layers: [1], r: 3}"], "vision.drop"),
    ],
)
def test_impossible_schedule(run, family, settings, part):
    flags = [word for setting in settings for word in ("--set", setting)]
    one_line(run(*ASK, *flags, family=family), 2, part)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["--set", "llm={layers: [2], keep: 1/0}"], id="a fraction of zero"),
        pytest.param(["--set", "generation.seed=2024-13-45"], id="YAML that is no date"),
        pytest.param(["--seed", "99999999999999999999"], id="a seed of more than 64 bits"),
        pytest.param(["--device", "xpu"], id="a device that torch knows and we do not"),
        pytest.param(["--device", "meta"], id="a device that computes nothing"),
        pytest.param(["-m", "~/checkpoint"], id="a name that cannot be a hub id"),
    ],
)
def test_values_that_nobody_thought_of(run, settings):
    one_line(run(*ASK, *settings), 2)


# --- prompts and models --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("<image> or <image>?", "2 <image> and there is 1 image"),
        ("<video>?", "1 <video> and there are 0 videos"),
    ],
)
def test_more_places_than_media(run, files, prompt, part):
    one_line(run("--image", str(files / "good.jpg"), "-p", prompt), 2, part)


@pytest.mark.parametrize("family", [LLAVA, QWEN])
def test_a_window_after_the_end(run, files, family):
    done = run("--video", str(files / "good.mp4"), *ASK, "--start", "60", family=family)
    one_line(done, 1, "60 s", "last frame of the clip is at 4.917 s")


def test_a_context_that_is_too_short(main, tmp_path, files):
    """The prompt must fit; an answer that would not is shortened, and that is said."""
    write_llava_onevision(tmp_path / "short", text_config={"max_position_embeddings": 64})
    flags = ["run", "-m", "short", "--preset", "off", *ASK]
    done = main(*flags, "--image", str(files / "good.jpg"), "-o", "answer.txt")
    one_line(done, 1, "context is 64", "--max-tiles")
    assert os.listdir() == ["short"]
    code, _, err = main(*flags, "--max-tokens", "100")
    assert code == 0
    assert re.match(r"illava: the context leaves room for \d+ of the 100 tokens asked for\n", err)


@pytest.mark.needs("no GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_asked_for_and_absent(run, device):
    one_line(run(*ASK, "--device", device), 1, "--device cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A checkpoint in the hub's layout, to be damaged as a copy."""
    return write_qwen2_vl(tmp_path_factory.mktemp("whole") / "checkpoint", layout="old")


def test_a_checkpoint_without_one_of_its_weights(main, whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if "layers.3.mlp" in name)
    del weights[name]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    one_line(main("run", "-m", "copy", *OFF, *ASK, "-o", "answer.txt"), 1, "not whole", "1 missing", "mlp")
    assert os.listdir() == ["copy"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "missing"),
        ("model.safetensors", "empty"),
        ("config.json", "empty"),
        ("chat_template.json", "missing"),
        ("chat_template.json", "empty"),
        ("tokenizer.json", "missing"),
        ("tokenizer.json", "empty"),
        ("preprocessor_config.json", "missing"),
        ("preprocessor_config.json", "empty"),
        ("video_preprocessor_config.json", "empty"),
    ],
)
def test_a_checkpoint_without_one_of_its_files(main, whole, tmp_path, name, damage):
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / name).unlink()
    if damage == "empty":
        (copy / name).touch()
    one_line(main("run", "-m", "copy", *OFF, *ASK), 1, "copy")


# --- what only a process shows -------------------------------------------------------------------


def test_offline(tmp_path):
    done = processes.run(
        [PROGRAM, "run", "-m", "somebody/some-model", "--device", "cpu", *ASK],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    one_line((done.returncode, done.stdout, done.stderr), 1, "offline mode is set", "-m tiny")


@pytest.mark.needs("mount")
def test_a_full_disk_under_the_answer(checkpoints, tmp_path):
    """On a tiny file system of its own, where this user may mount one."""
    script = (
        'mount -t tmpfs -o size=16k none "$0" || exit 99; head -c 65536 /dev/zero > "$0/full" 2> /dev/null; '
        '"$@"; code=$?; ls -A "$0"; exit $code'
    )
    answer = tmp_path / "answer.txt"
    question = [PROGRAM, "run", "-m", checkpoints(LLAVA), *OFF, "-q", *ASK, "-o", answer]
    done = processes.run(["unshare", "-rm", "sh", "-c", script, tmp_path, *question])
    if done.returncode not in (0, 1, 2):
        skip("mount", done.stderr.strip())
    assert done.stdout == "full\n"
    one_line((done.returncode, "", done.stderr), 1, "answer.txt", "No space left")


@pytest.mark.needs("/dev/full")
@pytest.mark.parametrize("flags", [["--no-stream"], ["--stream"], ["--format", "json"]], ids=" ".join)
def test_a_full_disk_behind_stdout(run, monkeypatch, flags):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = run(*ASK, "-q", *flags)
    one_line(done, 1, "stdout", "No space left")


def test_a_write_that_fails_leaves_nothing(run, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    one_line(run(*ASK, "-o", "answer.txt"), 1, "answer.txt", "No space left")
    assert os.listdir() == []


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams(tmp_path, closed):
    """What belongs to stderr never goes to stdout."""
    command = f'"{PROGRAM}" run -p x --image missing.jpg {closed}'
    done = processes.run(["sh", "-c", command], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == (closed == "<&-")
