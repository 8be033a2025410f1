"""What `transformers` does not do, and checkpoints that are not whole: one line each."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from illava_cli.errors import ModelError, UsageError
from illava_cli.models import repository
from illava_cli.models.catalog import read_config
from tests.builders import write_llava_next
from tests.conftest import picture
from tests.models.repository.checkpoints import OFF, open_checkpoint
from tests.repository import write_repository


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type 'flat'"),
        ({"mm_resampler_type": "perceiver"}, "mm_resampler_type 'perceiver' .*only None$"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear'"),
        ({"mm_newline_position": "frame"}, "mm_newline_position 'frame' .*only 'one_token' or 'grid'$"),
        ({"mm_spatial_pool_mode": "max"}, "mm_spatial_pool_mode 'max'"),
        ({"add_faster_video": True}, "add_faster_video .*only False$"),
        ({"image_aspect_ratio": "pad"}, "image_aspect_ratio 'pad'"),
        ({"image_grid_pinpoints": "many"}, "image_grid_pinpoints 'many'"),
        ({"mm_patch_merge_type": ...}, "mm_patch_merge_type 'flat' .*names none.*only 'spatial_unpad'"),
        ({"mm_projector_type": ...}, "mm_projector_type 'linear' .*names none.*only 'mlp2x_gelu'"),
        ({"image_grid_pinpoints": ...}, "names no image_grid_pinpoints"),
        ({"mm_vision_tower": "someone/a-tower"}, r"a-tower is not known \(known are: openai/clip"),
        ({"architectures": ["LlavaMptForCausalLM"]}, "LlavaMptForCausalLM.*LlavaQwenForCausalLM"),
        ({"architectures": None}, "it knows: LlavaLlamaForCausalLM"),
    ],
)
def test_what_transformers_does_not_do_is_refused(fields, part, pair, tmp_path):
    config = json.loads((pair("onevision")[0] / "config.json").read_text())
    config = {
        name: value for name, value in (config | fields).items() if value is not ...
    }  # ...: it is missing
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ModelError, UsageError), match=part) as error:
        open_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("tower", "part"),
    [
        ("{", "cannot be read as the configuration of a vision tower"),
        ('{"model_type": "clip_vision_model"}', "cannot be read as the configuration"),
        ('{"model_type": "vit", "num_hidden_layers": 2, "image_size": 84}', "type 'vit' is not supported"),
    ],
)
def test_a_tower_that_cannot_be_used_is_one_line(tower, part, pair, tmp_path):
    config = json.loads((pair("onevision")[0] / "config.json").read_text())
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text(tower)
    config["mm_vision_tower"] = str(tmp_path / "tower")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=part) as error:
        open_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_a_relative_tower_lies_beside_its_checkpoint(pair, tmp_path, monkeypatch):
    config = json.loads((pair("onevision")[0] / "config.json").read_text())
    expected = read_config(pair("onevision")[0])["vision_config"]
    (tmp_path / "llava").mkdir()
    (tmp_path / "tower").symlink_to(config["mm_vision_tower"])
    (tmp_path / "llava" / "config.json").write_text(json.dumps(config | {"mm_vision_tower": "../tower"}))
    monkeypatch.chdir(tmp_path.parent)
    assert read_config(tmp_path / "llava")["vision_config"] == expected


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("a shard", "model-00002-of-00002"),
        ("the tower", "comes without the weights of its vision tower"),
        ("a weight", "1 missing keys"),
        ("a stranger", "1 unexpected keys .*stranger"),
    ],
)
def test_a_partial_checkpoint_is_refused(damage, part, tmp_path):
    folder = write_repository(tmp_path / "llava", write_llava_next(tmp_path / "hf"))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    if damage == "a shard":
        (folder / "model-00002-of-00002.safetensors").unlink()
    for shard in sorted(folder.glob("*.safetensors")):
        weights = load_file(shard)
        if damage == "the tower":
            weights = {name: w for name, w in weights.items() if "vision_tower" not in name}
        if damage == "a weight":
            weights.pop("model.layers.1.mlp.up_proj.weight", None)
        if damage == "a stranger" and "00001" in shard.name:
            weights["model.stranger.weight"] = torch.zeros(2)
            index["weight_map"]["model.stranger.weight"] = shard.name
        if damage != "a shard":
            save_file(weights, shard, {"format": "pt"})
            kept = {n for n, where in index["weight_map"].items() if where != shard.name or n in weights}
            index["weight_map"] = {n: index["weight_map"][n] for n in kept}
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match=part) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", ["width", "fewer layers", "more layers"])
def test_a_tower_of_another_size_is_named(other, tmp_path):
    """All that is known of a tower is its name; it may have been trained from another."""
    folder = write_repository(tmp_path / "llava", write_llava_next(tmp_path / "hf"))
    path = folder.with_name("llava-tower") / "config.json"
    tower = json.loads(path.read_text())
    change = {
        "width": {"hidden_size": 48, "intermediate_size": 96},
        "fewer layers": {"num_hidden_layers": 6},
        "more layers": {"num_hidden_layers": 8},
    }[other]
    path.write_text(json.dumps(tower | change))
    with pytest.raises(
        ModelError, match=r"weights of its vision tower \(model\.vision_tower\..* are not those of "
    ) as error:
        open_checkpoint(folder)
    assert str(path.parent) in str(error.value)
    assert "let mm_vision_tower name a directory" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_published_tower_s_size_is_assumed(tmp_path, monkeypatch):
    """Then its name is what the line says, and a directory beside the checkpoint mends it."""
    folder = write_repository(tmp_path / "llava", write_llava_next(tmp_path / "hf"))
    own = json.loads((folder.with_name("llava-tower") / "config.json").read_text())
    small = own | {"hidden_size": 64, "intermediate_size": 128, "patch_size": 12}
    monkeypatch.setitem(repository.PUBLISHED_TOWERS, "openai/clip-small", small)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"mm_vision_tower": "openai/clip-small"}))
    with pytest.raises(ModelError, match=r"not those of openai/clip-small, which its config\.json names"):
        open_checkpoint(folder)
    path.write_text(json.dumps(config | {"mm_vision_tower": "../llava-tower"}))
    assert open_checkpoint(folder, *OFF).ask("What?", [picture(60, 60)]).usage.visual.patches > 0
