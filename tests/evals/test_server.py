"""`illava eval --server`: the same questions, answered by a server elsewhere."""

import json

import numpy as np
import pytest

from illava_cli.cli.app import main
from illava_cli.client.body import part
from illava_cli.evals.taskfile import questions
from illava_cli.media import read_image, read_video
from tests.client.conftest import impatient, server  # noqa: F401 - fixtures
from tests.client.fake import completion, drop, error, reply


@pytest.fixture
def evaluate(server, capsys, task_file):  # noqa: F811
    """Runs the command: exit code, report (or what stdout held), stderr."""

    def run(*arguments, tasks=task_file):
        flags = ["eval", "--server", server.url, "--tasks", str(tasks), "--format", "json"]
        code = main([*flags, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def by_preset(handler, body):
    """Right under `off`, right every other time under another preset, unless it sees nothing."""
    text = body["messages"][-1]["content"][-1]["text"]
    odd = text.removeprefix("Number ").removesuffix("?") in "135"
    seen = body["messages"][-1]["content"][0]["type"] == "image_url"
    visual = {"patches": 729, "vision_kept": 361, "llm_in": 361, "llm_kept": 253}
    right = seen and (body.get("preset") == "off" or odd)
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "visual_tokens": visual}
    reply(200, completion("red" if right else "blue", usage=usage))(handler, body)


def test_presets_are_compared_with_the_first(evaluate, server, tmp_path):  # noqa: F811
    server.default = by_preset
    server.steps.extend([error(429, "busy", Retry_After="0"), drop])
    flags = [
        "--preset",
        "off",
        "--preset",
        "paper",
        "--blind",
        "--concurrency",
        3,
        "-o",
        tmp_path / "a.jsonl",
    ]
    code, report, err = evaluate(*flags)
    assert code == 0, err
    assert list(report["variants"]) == ["off", "paper", "blind"]
    figures = report["all"]["variants"]
    shares = {name: round(one["accuracy"]["value"], 3) for name, one in figures.items()}
    assert shares == {"off": 1.0, "paper": 0.5, "blind": 0.0}
    assert figures["paper"]["difference"]["value"] == -0.5
    assert "difference" not in figures["off"]
    assert figures["paper"]["kl"] is None
    assert figures["paper"]["visual_tokens"]["llm_kept"] == 253
    assert report["model"] == {"id": "fake", "server": f"{server.url}/v1"}
    assert f"fake at {server.url}/v1" in err
    assert "accuracy against off" in err
    assert 1 <= server.most <= 3
    assert {body["max_tokens"] for body in server.asked} == {32}
    asked = len(server.asked)
    assert asked == 18 + 2

    assert evaluate(*flags)[1]["all"] == report["all"]
    assert len(server.asked) == asked  # all of it is there
    code, again, _ = evaluate(*flags, "--preset", "auto")
    assert len(server.asked) == asked + 6
    assert list(again["variants"]) == ["off", "paper", "auto", "blind"]


def test_a_server_that_knows_no_presets(evaluate, server):  # noqa: F811
    """It is measured as it is."""
    server.default = by_preset
    code, report, _ = evaluate()
    assert code == 0
    assert list(report["variants"]) == ["server"]
    assert "preset" not in server.asked[0]
    server.default = error(400, "Unknown parameter: preset", param="preset")
    code, _, err = evaluate("--preset", "auto")
    assert code == 2
    assert "leave out preset" in err.splitlines()[-1]


def test_questions_that_fail_are_told_and_asked_again(evaluate, server, tmp_path):  # noqa: F811
    def refusing(handler, body):
        text = body["messages"][-1]["content"][-1]["text"]
        (error(400, "no") if "3" in text else reply(200, completion("red")))(handler, body)

    server.default = refusing
    code, report, _ = evaluate("-o", tmp_path / "a.jsonl")
    assert code == 3
    assert [one["error"]["message"] for one in report["failed"]] == [f"{server.url}/v1: answered 400: no"]
    server.default = by_preset
    asked = len(server.asked)
    assert evaluate("-o", tmp_path / "a.jsonl")[0] == 0
    assert len(server.asked) == asked + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep"], "leave them out with --server"),
        (["--survivors"], "leave them out with --server"),
        (["-m", "tiny"], "name it with --server-model"),
        (["--variant", "half: llm.keep=0.5"], "llm cannot be sent"),
        (["--set", "generation.temperature=1"], "greedy answers are compared"),
        (["--preset", "off", "--method", "fastv"], "preset off has none"),
    ],
)
def test_what_cannot_work_is_told_before(evaluate, server, arguments, words):  # noqa: F811
    code, report, err = evaluate(*arguments)
    assert (code, report, server.asked) == (2, None, [])
    assert words in err


def test_drawn_media_are_sent_without_a_loss():
    """Pictures as PNG, frames as an animated one, also where one is as the one before."""
    drawn = {"image": 0, "video": 0}
    for question in questions(["world"], 60):
        sample = question()
        for source in sample.images:
            read = read_image(part("image", source)["image_url"]["url"])
            assert np.array_equal(np.asarray(read.image), np.asarray(source))
            drawn["image"] += 1
        for frames in sample.videos[: drawn["video"] < 3]:
            read = read_video(part("video", frames)["video_url"]["url"])
            assert len(read.frames) == len(frames)
            assert all(
                np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(read.frames, frames, strict=True)
            )
            drawn["video"] += 1
    assert all(drawn.values())
    still = np.zeros((4, 8, 9, 3), np.uint8)
    assert len(read_video(part("video", still)["video_url"]["url"]).frames) == 4
