"""The embedded models: they answer their samples, with merging and without, quickly and with no download."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from illava_cli import load
from illava_cli.config.presets import preset_names
from illava_cli.evals.world import questions
from tests import processes

ASSETS = Path(__file__).parents[2] / "illava_cli" / "assets"
PICTURE, CLIP = str(ASSETS / "shapes.jpg"), str(ASSETS / "shapes.mp4")
ABOUT_THE_PICTURE = {
    "What colour is the star?": "yellow",
    "What shape is the red one?": "circle",
    "How many shapes are there?": "3",
}
ABOUT_THE_CLIP = {"Which way does the circle move?": "right"}
OTHERS = {"gemma-4", "internvl", "llava-next", "qwen2-vl", "qwen2-vl-2b", "qwen2.5-vl", "qwen3-vl", "qwen3.5"}
PUBLISHED = {"image", "paper", "video"}  # for LLaVA-OneVision
FITTING = [
    (model, preset)
    for model, strange in (("tiny", OTHERS), ("tiny-qwen", OTHERS - {"qwen3-vl"} | PUBLISHED))
    for preset in preset_names()
    if preset not in strange
]


@pytest.fixture(scope="module")
def sessions():
    made = {}

    def get(model: str, preset: str):
        if (model, preset) not in made:
            made[model, preset] = load(model, preset=preset, device="cpu", dtype="float32")
        return made[model, preset]

    return get


@pytest.mark.parametrize(("model", "preset"), FITTING)
def test_samples_are_answered_right(sessions, model, preset):
    session = sessions(model, preset)
    for question, answer in ABOUT_THE_PICTURE.items():
        assert session.ask(question, [PICTURE]).text == answer


@pytest.mark.parametrize(("model", "preset"), FITTING)
def test_the_sample_clip_is_answered_right(sessions, model, preset):
    for question, answer in ABOUT_THE_CLIP.items():
        assert sessions(model, preset).ask(question, videos=[CLIP]).text == answer


@pytest.mark.parametrize(("model", "preset"), [("tiny", "off"), ("tiny", "auto"), ("tiny-qwen", "auto")])
def test_a_cold_start_needs_no_network(model, preset):
    """The program itself, with nothing loaded and no way out."""
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")}
    environment = os.environ | nowhere | {"HF_HUB_OFFLINE": "1"}
    asked = [("--image", PICTURE, ABOUT_THE_PICTURE), ("--video", CLIP, ABOUT_THE_CLIP)]
    for flag, medium, questions_and_answers in asked:
        question, answer = list(questions_and_answers.items())[-1]
        command = [sys.executable, "-m", "illava_cli.cli.app", "run", "-m", model, "--preset", preset, "-q"]
        run = processes.run(
            [*command, flag, medium, "-p", question, "--device", "cpu"],
            env=environment,
            cwd=ASSETS.parents[1],
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, f"{answer}\n", "")


@pytest.mark.parametrize(
    ("model", "preset"),
    [("tiny", "off"), ("tiny", "auto"), ("tiny", "paper"), ("tiny-qwen", "off"), ("tiny-qwen", "auto")],
)
def test_held_out_questions_are_answered(sessions, model, preset):
    """Far above chance (1/6, 1/5, 1/5, 1/4), with room for other machines' rounding."""
    for task, least in (("colour", 0.7), ("shape", 0.85), ("count", 0.8), ("video-direction", 0.8)):
        asked = list(questions([task], 24))
        requests = [{"prompt": q.prompt, "images": list(q.images), "videos": list(q.videos)} for q in asked]
        answers = sessions(model, preset).ask_batch(requests)
        right = sum(a.text == q.answer for a, q in zip(answers, asked, strict=True))
        assert right >= least * len(asked), (task, right)


def test_the_paper_preset_is_scaled_to_its_geometry(sessions):
    one = questions(["colour"], 1)
    visual = sessions("tiny", "paper").ask("?", next(iter(one)).images).usage.visual
    assert (visual.patches, visual.vision_kept) == (2 * 144, 2 * 64)
    assert visual.llm_kept == round(visual.llm_in * 253 / 361)


@pytest.mark.parametrize(
    ("model", "family", "most"), [("tiny", "llava_onevision", 25e6), ("tiny-qwen", "qwen3_vl", 8e6)]
)
def test_it_is_whole_and_small(model, family, most):
    folder = ASSETS / model
    assert sum(path.stat().st_size for path in folder.iterdir()) < most
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == family
    assert (folder / "README.md").exists()
