"""Checkpoints in the hub's layouts, and those that must be refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from illava_cli.errors import ModelError, UsageError
from tests.builders import write_llava_onevision, write_qwen2_vl
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture
from tests.tolerances import FLOAT32


def session(folder, *settings):
    return load(
        config=resolve(
            str(folder), settings=["model.device=cpu", "generation.max_tokens=3", *settings], environ={}
        )
    )


@pytest.mark.parametrize("family", WRITERS)
def test_old_and_new_layout_give_the_same_answer(family, tmp_path):
    answers = []
    for layout in ("old", "new"):
        folder = WRITERS[family](tmp_path / layout, layout=layout)
        media = {"images": [picture(150, 90)]}
        if family not in IMAGES_ONLY:
            media["videos"] = [clip(3, 60, 60)]
        answers.append(session(folder, "preset=off").ask("What?", **media, logits=True))
    torch.testing.assert_close(answers[0].logits, answers[1].logits, **FLOAT32)


@pytest.mark.parametrize("family", WRITERS)
def test_offloaded_to_disk(family, tmp_path):
    """`device_map` puts accelerate's hooks on the modules; our forwards run inside them."""
    folder = WRITERS[family](tmp_path / "checkpoint")
    question = {"images": [picture(150, 90)], "logits": True}
    schedule = ["preset=off", "layout=faithful"]
    if not family.startswith("gemma"):
        schedule.append("llm={layers: [2], keep: 0.5}")
    qwen = family.startswith("qwen")
    grouped = not family.startswith("llava")
    schedule.append("vision={layers: [1], drop: 0.3}" if grouped else "vision={layers: [1], r: 11}")
    whole = session(folder, *schedule).ask("What?", **question)
    tower = "model.visual" if qwen else "model.vision_tower"
    text = "model.language_model"
    names = {f"{text}.{part}": "cpu" for part in ("embed_tokens", "norm", "rotary_emb")}
    names |= {f"{text}.layers.{i}": "disk" if i in (2, 3) else "cpu" for i in range(6)}
    names |= {tower: "disk", "lm_head": "cpu"}
    if family.startswith("gemma"):
        own = ("embed_tokens_per_layer", "per_layer_model_projection", "per_layer_projection_norm")
        names |= {"model.embed_vision": "disk"} | {f"{text}.{part}": "cpu" for part in own}
    elif not qwen:
        names |= {"model.multi_modal_projector": "disk"}
    if not grouped:
        names |= {"model.image_newline": "cpu"}
    spread = load(
        config=resolve(
            str(folder),
            settings=["generation.max_tokens=3", *schedule],
            overrides={"model": {"device_map": names, "offload_folder": str(tmp_path / "offload")}},
            environ={},
        )
    ).ask("What?", **question)
    torch.testing.assert_close(spread.logits, whole.logits, **FLOAT32)


def test_dtypes(tmp_path):
    folder = write_qwen2_vl(tmp_path / "c", dtype=torch.bfloat16)
    for name in ("float32", "bfloat16", "float64"):
        s = session(folder, f"model.dtype={name}", "preset=off")
        assert s.model.dtype == getattr(torch, name)
        assert s.ask("What?", [picture(90, 90)], logits=True).logits.isfinite().all()


def test_half_precision_merges_nearly_as_single(tmp_path):
    folder = write_llava_onevision(tmp_path / "c")
    schedule = ["preset=off", "vision={layers: [1, 3], r: [11, 9]}", "llm={layers: [2], keep: 0.7}"]
    answers = [
        session(folder, *schedule, f"model.dtype={name}").ask("What?", [picture(90, 90)])
        for name in ("float32", "bfloat16")
    ]
    assert answers[0].usage == answers[1].usage


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape", "truncated", "no config", "bad config"])
def test_a_partial_model_is_refused(damage, tmp_path):
    folder = write_llava_onevision(tmp_path / "c")
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if "layers.1.mlp" in n)
    if damage == "missing":
        del weights[name]
    elif damage == "unexpected":
        weights["model.stranger.weight"] = torch.zeros(2)
    elif damage == "shape":
        weights[name] = torch.zeros(3, 3)
    save_file(weights, path, metadata={"format": "pt"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    if damage == "no config":
        (folder / "config.json").unlink()
    if damage == "bad config":
        (folder / "config.json").write_text("{")
    with pytest.raises((ModelError, UsageError)) as error:
        session(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_an_unknown_family_names_those_we_know(tmp_path):
    folder = write_llava_onevision(tmp_path / "c")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "blip"}))
    with pytest.raises(UsageError, match=r"'blip'.*llava_onevision"):
        session(folder)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (["preset=off", "vision={layers: [1], r: 36}"], "cannot remove 36 of the 36"),
        (["preset=off", "vision={layers: [7], r: 1}"], "out of range"),
        (["preset=off", "vision={layers: [1], r: 5}"], "no square grid"),
        (
            ["preset=off", "vision={layers: [1], drop: 0.5}"],
            "vision.drop is for models that merge groups",
        ),
        (["preset=off", "vision={layers: [1, 2], r: [1, 2, 3]}"], "3 values for 2 layers"),
        (["preset=off", "vision={layers: [1, 1], r: 1}"], "named twice"),
        (["preset=off", "vision={layers: [1]}"], "vision.r is missing"),
        (["preset=off", "vision={layers: [1], r: 11, method: ilava}"], "did you mean 'illava'"),
        (["preset=off", "llm={layers: [0], keep: 0.5}"], "out of range"),
        (["preset=off", "llm={layers: [6], keep: 0.5}"], "out of range"),
        (["preset=off", "llm={layers: [2], keep: 0.0}"], "at least one token"),
        (["preset=off", "variant=authors", "llm={layers: [2], keep: 0.5, queries: visual}"], "queries"),
        (["preset=off", "positions=original", "vision={layers: [1], r: 11}"], "faithful"),
        (["preset=paper"], "out of range|cannot remove"),
    ],
)
def test_impossible_schedules_are_refused_before_anything_runs(settings, part, checkpoints):
    with pytest.raises(UsageError, match=part) as error:
        session(checkpoints("llava_onevision"), *settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_qwen_refuses_what_needs_tiles(family, checkpoints):
    for settings in (
        ["preset=paper"],
        ["preset=off", "layout=grid", "vision={layers: [1], drop: 0.2}"],
        ["preset=off", "layout=faithful", "positions=packed", "vision={layers: [1], drop: 0.2}"],
    ):
        with pytest.raises(UsageError):
            session(checkpoints(family), *settings)
    with pytest.raises(UsageError, match="max-tiles"):
        session(checkpoints(family), "preset=off", "media.max_tiles=2").ask("?", [picture(60, 60)])


@pytest.mark.needs("no GPU")
def test_cuda_asked_for_and_absent(checkpoints):
    with pytest.raises(ModelError, match="--device cpu"):
        load(config=resolve(checkpoints("qwen2_vl"), settings=["model.device=cuda"], environ={}))


def test_extras_that_are_absent_are_one_line(checkpoints):
    for setting, package in (
        ("model.quantization=bnb-4bit", "bitsandbytes"),
        ("model.attn=flash_attention_2", "flash-attn"),
    ):
        with pytest.raises(ModelError, match=package):
            session(checkpoints("qwen2_vl"), setting)


def test_offline_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="-m tiny") as error:
        load(config=resolve("nobody/nothing-at-all", settings=["model.device=cpu"], environ={}))
    assert "\n" not in str(error.value)
