"""lmms-eval's own models for OpenAI's API, `openai` and `async_openai`, ask `illava serve`."""

from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from illava_cli import load
from tests.integrations.drawn_shapes import CLIP, DrawnShapes
from tests.needs import skip
from tests.serve.real_server import serving

pytestmark = pytest.mark.needs("lmms-eval", "openai")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return DrawnShapes(tmp_path_factory.mktemp("harness"))


@pytest.fixture(scope="module")
def expected(task):
    """The session's own answers: merged, with the frames and the length that the harness asks for."""
    return task.asked(load("tiny", preset="auto", device="cpu", num_frames=8, max_tokens=8))


@pytest.fixture(scope="module")
def ask(task):
    """Runs the harness against a server."""
    pytest.importorskip("dotenv", reason="needs lmms-eval: its models for OpenAI's API want python-dotenv")
    with serving("--preset", "auto", "--threads", "1", "--media-root", str(Path(CLIP).parent)) as server:

        def run(model, *arguments, args=""):
            named = f"model=tiny,base_url={server.url}/v1{args}"
            options = ("--model", model, "--model_args", named, "--batch_size", "1", *arguments)
            return task.run(*options, OPENAI_API_KEY="none", OPENAI_API_BASE="")

        yield run


def answered(run):
    assert run.done.returncode == 0, run.done.stderr
    counts = [sample["token_counts"][0] for sample in run.samples]
    return [
        (sample["filtered_resps"], count["input_tokens"], count["output_tokens"])
        for sample, count in zip(run.samples, counts, strict=True)
    ]


def said(expected):
    return [(one.text, one.usage.prompt_tokens, one.usage.completion_tokens) for one in expected]


def test_pictures_and_a_clip_are_answered_as_by_the_session(task, ask, expected):
    if Version(version("lmms-eval")) < Version("0.7.2"):
        skip("lmms-eval", "0.7.2 is the first that sends a clip as it is")
    run = ask("openai", args=",pass_video_url=True,max_frames_num=8")
    assert answered(run) == said(expected)
    texts = [one.text for one in expected]
    right = sum(text == document["answer"] for text, document in zip(texts, task.documents, strict=True))
    (report,) = run.reports
    assert report["results"]["drawn_shapes"]["accuracy,none"] == pytest.approx(right / len(texts))
    assert right >= 11  # a guess would be right about four times


def test_its_model_for_tasks_asks_about_pictures(ask, expected):
    """Not about clips, whose frames it sends: for these it needs qwen-vl-utils, and that torchvision."""
    assert answered(ask("async_openai", "--limit", "16")) == said(expected[:16])
