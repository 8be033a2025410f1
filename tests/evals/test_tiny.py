"""The embedded model: it answers its samples, with merging and without, quickly and with no download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from illava_cli import load
from illava_cli.evals.world import questions

ASSETS = Path(__file__).parents[2] / "illava_cli" / "assets"
PICTURE, CLIP = str(ASSETS / "shapes.jpg"), str(ASSETS / "shapes.mp4")
ABOUT_THE_PICTURE = {
    "What colour is the star?": "yellow",
    "What shape is the red one?": "circle",
    "How many shapes are there?": "3",
    "Where is the blue square?": "bottom right",
    "What does the sign say?": "BOOK",
}
ABOUT_THE_CLIP = {"Which way does the circle move?": "right"}


@pytest.fixture(scope="module")
def sessions():
    made = {}

    def get(preset: str):
        if preset not in made:
            made[preset] = load("tiny", preset=preset, device="cpu", dtype="float32")
        return made[preset]

    return get


@pytest.mark.parametrize("preset", ["off", "auto", "paper"])
def test_samples_are_answered_right(sessions, preset):
    session = sessions(preset)
    for question, answer in ABOUT_THE_PICTURE.items():
        assert session.ask(question, [PICTURE]).text == answer
    for question, answer in ABOUT_THE_CLIP.items():
        assert session.ask(question, videos=[CLIP]).text == answer


def test_the_paper_preset_is_scaled_to_its_geometry(sessions):
    one = questions(["colour"], 1)
    visual = sessions("paper").ask("?", next(iter(one)).images).usage.visual
    assert (visual.patches, visual.vision_kept) == (2 * 144, 2 * 64)
    assert visual.llm_kept == round(visual.llm_in * 253 / 361)


def test_it_is_whole_and_small():
    folder = ASSETS / "tiny"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25e6
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llava_onevision"
    assert (folder / "README.md").exists()
