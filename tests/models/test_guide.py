"""What a guide chooses, against the stock model in float64 on pixels that are prepared by hand."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, CLIPSegForImageSegmentation

from illava_cli.config import GuideStage
from illava_cli.errors import ModelError, UsageError
from illava_cli.models import guide as guides
from illava_cli.models.guide import load_guide
from illava_cli.reduction import region
from tests.conftest import clip
from tests.guides import EDGE, MEANS, PATCH, write_clip, write_clipseg
from tests.reduction.slow import densest_window, middle_of_cells

CPU = torch.device("cpu")
PROMPT = "What colour is the cup behind the plate?"


def squashed(picture, edge, resample):
    """(3, edge, edge), by definition of resizing, rescaling and normalising."""
    values = np.asarray(Image.fromarray(picture).resize((edge, edge), resample)).astype(np.float64) / 255
    values = (values - np.array(MEANS["image_mean"])) / np.array(MEANS["image_std"])
    return torch.from_numpy(values).permute(2, 0, 1)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


class SlowClip:
    """One picture and one patch at a time."""

    stock = CLIPModel

    def __init__(self, folder):
        self.model = self.stock.from_pretrained(folder, dtype=torch.float64).eval()
        words = AutoTokenizer.from_pretrained(folder)
        self.ids = words(PROMPT, return_tensors="pt", truncation=True, max_length=77)

    @torch.no_grad()
    def look(self, pictures):
        """Similarity (F,) and relevance (F, h, w)."""
        text = self.model.get_text_features(**self.ids).pooler_output[0]
        whole, cells = [], []
        for picture in pictures:
            pixels = squashed(picture, EDGE, Image.Resampling.BICUBIC)[None]
            whole.append(cosine(text, self.model.get_image_features(pixels).pooler_output[0]))
            patches = self.model.vision_model(pixels).last_hidden_state[0, 1:]
            cells.append([cosine(text, self.model.visual_projection.weight @ patch) for patch in patches])
        side = EDGE // PATCH
        return torch.tensor(whole), torch.tensor(cells, dtype=torch.float64).view(-1, side, side)


class SlowClipSeg(SlowClip):
    """One picture at a time."""

    stock = CLIPSegForImageSegmentation

    @torch.no_grad()
    def look(self, pictures):
        cells = []
        for picture in pictures:
            pixels = squashed(picture, EDGE + 2 * PATCH, Image.Resampling.BILINEAR)[None]
            cells.append(1 / (1 + (-self.model(pixel_values=pixels, **self.ids).logits[0]).exp()))
        return None, torch.stack(cells)


def slow_regions(stage, frames_alone, looked, pictures):
    """(frame, box) of all that is shown."""
    (whole, cells), keep = looked, stage.keep
    if stage.method != "free-video-llm":
        centre = densest_window(cells.mean(0), keep)
        return [(i, region(centre, picture.shape[:2], keep)) for i, picture in enumerate(pictures)]
    area = keep if len(pictures) == 1 else max(stage.roi, keep)
    share = 1 if len(pictures) == 1 else keep if frames_alone else keep / area
    best = sorted(range(len(pictures)), key=lambda i: (-float(whole[i]), i))
    chosen = sorted(best[: max(1, round(len(pictures) * share))])
    return [(i, region(middle_of_cells(cells[i], area), pictures[i].shape[:2], area)) for i in chosen]


@pytest.mark.parametrize("method", ["clip-crop", "clipseg-crop", "free-video-llm"])
def test_regions_equal_the_slow_reference(method, guide_folders, monkeypatch):
    monkeypatch.setattr(guides, "PICTURES", 3)  # passes of several sizes
    folder = guide_folders(method)
    slow = (SlowClipSeg if method == "clipseg-crop" else SlowClip)(folder)
    guide = load_guide(GuideStage(method=method, model=folder), CPU, torch.float64, print)
    for frames in (1, 7):
        pictures = list(clip(frames, 120, 90, seed=3))
        looked = slow.look(pictures)
        for keep, frames_alone in itertools.product((0.2, 0.5, 0.9, 1.0), (False, True)):
            stage = GuideStage(method=method, model=folder, keep=keep)
            found = guide.regions(pictures, PROMPT, stage, frames_alone=frames_alone)
            expected = slow_regions(stage, frames_alone, looked, pictures)
            assert [(one.frame, one.box) for one in found] == expected


def test_relevance_depends_on_prompt_and_picture(guide_folders):
    for method in ("clip-crop", "clipseg-crop"):
        stage = GuideStage(method=method, model=guide_folders(method))
        guide = load_guide(stage, CPU, torch.float32, print)
        pictures = list(clip(2, 60, 60))
        _, cells = guide.look(pictures, "a cup")
        assert not torch.allclose(cells[0], cells[1])
        assert not torch.allclose(cells, guide.look(pictures, "three dogs")[1])
        assert guide.look(pictures, "many words " * 80)[1].isfinite().all()  # longer than it can read


def test_refused_in_one_line(guide_folders, tmp_path, monkeypatch):
    def load(method, model):
        return load_guide(GuideStage(method=method, model=str(model)), CPU, torch.float32, print)

    with pytest.raises(UsageError, match=r"takes a 'clipseg' checkpoint such as CIDAS/.* is a 'clip' one"):
        load("clipseg-crop", guide_folders("clip-crop"))
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        load("clip-crop", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ModelError, match=r"cannot download a/b \(offline.*: name a local one with --set guide"
    ):
        load("clip-crop", "a/b")
    broken = write_clip(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot load"):
        load("clip-crop", broken)
    config = json.loads((broken / "config.json").read_text())
    write_clip(broken)
    config["vision_config"]["num_hidden_layers"] = 3
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is not whole: .* missing keys"):
        load("clip-crop", broken)


@pytest.mark.parametrize(("write", "method"), [(write_clip, "clip-crop"), (write_clipseg, "clipseg-crop")])
def test_the_end_token_s_name_in_a_prompt_is_words(write, method, tmp_path):
    """What follows it is read too: a CLIP takes a text's features from its end token."""
    stage = GuideStage(method=method, model=str(write(tmp_path / "checkpoint")))
    guide = load_guide(stage, CPU, torch.float32, print)
    pictures = list(clip(1, 64, 64))
    one, other = (guide.look(pictures, f"a <|endoftext|> {word}")[1] for word in ("cat", "plate"))
    assert not torch.equal(one, other)
