"""The real checkpoints from the hub: identity with `transformers`, token counts, and a plausible answer.

Needs a connection, 6 GB of disk and 20 GB of memory (`make test-network`); offline all of it is skipped.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from illava_cli.engine.session import Session
from illava_cli.models.catalog import checkpoint_folder
from tests.conftest import picture
from tests.needs import skip
from tests.stock import Stock

pytestmark = pytest.mark.network

# name -> the published schedule for images
MODELS = {"llava-onevision-0.5b": "image", "qwen2-vl-2b": "qwen2-vl"}


@pytest.fixture(autouse=True, scope="module")
def _online():
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    for name in MODELS:
        try:
            HfApi().model_info(resolve(name, environ={}).model.id, timeout=10)
        except RepositoryNotFoundError:
            raise
        except Exception:  # the hub client, its HTTP library and the socket each have their own
            skip("network", "no connection to the hub")


@pytest.fixture(autouse=True)
def _one_model_in_memory():
    yield
    gc.collect()


def open_session(name: str, preset: str, *settings: str) -> Session:
    common = [f"preset={preset}", "model.device=cpu", "model.dtype=float32", "generation.max_tokens=8"]
    return load(config=resolve(name, settings=[*common, *settings], environ={}))


def red_circle() -> Image.Image:
    image = Image.new("RGB", (336, 336), "white")
    ImageDraw.Draw(image).ellipse((68, 68, 268, 268), fill="red")
    return image


@pytest.mark.parametrize("name", MODELS)
def test_off_equals_transformers(name):
    prompt, image = "What is shown here?", picture(336, 224, seed=1)
    answer = open_session(name, "off").ask(prompt, images=[image], logits=True)
    gc.collect()  # two models of 2B parameters in float32 are 18 GB

    folder = Path(checkpoint_folder(resolve(name, environ={}).model.id, None, print))
    stock = Stock(folder, dtype=torch.float32)
    if stock.tokenizer.chat_template is None:
        template = json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))
        stock.tokenizer.chat_template = template["chat_template"]
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    logits, tokens = stock.answer(stock.chat([{"role": "user", "content": content}]), [image], tokens=8)
    torch.testing.assert_close(answer.logits, logits, atol=1e-2, rtol=0)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]


def test_paper_counts():
    session = open_session("llava-onevision-0.5b", "paper", "media.max_tiles=1")
    visual = session.ask("?", images=[picture(300, 200)]).usage.visual
    assert (visual.patches, visual.vision_kept, visual.llm_in, visual.llm_kept) == (729, 361, 361, 253)
    visual = session.ask("?", images=[picture(300, 200), picture(200, 300, seed=1)]).usage.visual
    assert (visual.patches, visual.vision_kept, visual.llm_in, visual.llm_kept) == (1458, 722, 722, 506)


def test_qwen_counts():
    visual = open_session("qwen2-vl-2b", "qwen2-vl").ask("?", images=[picture(280, 560)]).usage.visual
    groups = (280 // 28) * (560 // 28)
    in_tower = groups
    for _ in range(4):
        in_tower -= int(0.16 * in_tower)
    in_llm = in_tower
    for _ in range(3):
        in_llm -= round(0.10 * in_llm)
    counts = (visual.patches, visual.vision_kept, visual.llm_in, visual.llm_kept)
    assert counts == (4 * groups, 4 * in_tower, in_tower, in_llm)


@pytest.mark.parametrize("name", MODELS)
def test_the_colour_of_a_circle(name):
    session = open_session(name, MODELS[name])
    for merging in (True, False):
        session = session.with_merging(merging)
        answer = session.ask("What colour is the circle?", images=[red_circle()])
        assert "red" in answer.text.lower(), answer.text
        assert (answer.usage.visual.llm_kept < answer.usage.visual.llm_in) == merging
