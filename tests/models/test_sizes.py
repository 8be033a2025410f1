"""Which schedules fit a model is said in its YAML, and found again by its configuration."""

import json

import pytest

from illava_cli.config import Config, read_yaml, resolve, shipped
from illava_cli.errors import UsageError
from illava_cli.models.catalog import EMBEDDED, architecture
from illava_cli.models.sizes import own_preset, schedule_key, sizes

# as today's hub has it: an older file keeps the decoder's settings at the top
QWEN2_VL_2B = {"model_type": "qwen2_vl", "hidden_size": 1536, "vision_config": {"hidden_size": 1536}}
QWEN2_5_VL_OF_THAT_WIDTH = {"model_type": "qwen2_5_vl", "text_config": {"hidden_size": 1536}}


def checkpoint(folder, config) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def key(model, *settings) -> str:
    return schedule_key(resolve(model, settings=settings, environ={}))


def test_the_shipped_sizes():
    assert {size.name: size.key for size in sizes()} == {
        "qwen2-vl-2b": "qwen2_vl_2b",
        "tiny": "llava_onevision_tiny",
        "tiny-qwen": "qwen3_vl_tiny",
    }


def test_every_schedule_that_a_model_names_is_one_of_auto():
    auto = read_yaml(shipped("presets")["auto"])["by_family"]
    assert {size.key for size in sizes()} <= auto.keys()


@pytest.mark.parametrize("name", shipped("architectures"))
def test_random_architectures(name):
    own = architecture(name)["family"].removesuffix("_moe")  # experts change no schedule
    expected = {"qwen2-vl-2b": "qwen2_vl_2b"}.get(name, own)
    assert key(f"random:{name}") == expected


def test_by_name_by_folder_and_by_hub_id(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path / "a fine-tuned one", QWEN2_VL_2B)
    assert key("tiny") == key(str(EMBEDDED["tiny"])) == "llava_onevision_tiny"
    assert key("tiny-qwen") == key(str(EMBEDDED["tiny-qwen"])) == "qwen3_vl_tiny"
    assert key(folder) == "qwen2_vl_2b"
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: f"{folder}/config.json"
    )
    assert key("someone/Qwen2-VL-2B-mine") == key("qwen2-vl-2b") == "qwen2_vl_2b"
    assert key(checkpoint(tmp_path / "b", QWEN2_5_VL_OF_THAT_WIDTH)) == "qwen2_5_vl"


def test_the_setting_decides(tmp_path):
    folder = checkpoint(tmp_path / "a", QWEN2_VL_2B)
    assert key(folder, "model.schedule=qwen2_vl") == "qwen2_vl"
    assert key(folder, "model.schedule=qwen2_vl_mine") == "qwen2_vl_mine"
    with pytest.raises(UsageError, match=r"model\.schedule: 'qwen2_5_vl' is not for a 'qwen2_vl' model"):
        key(folder, "model.schedule=qwen2_5_vl")


def test_a_loaded_model_has_the_schedule_of_its_setting(open_session):
    session = open_session("qwen2_vl", "model.schedule=qwen2_vl_2b", "preset=off")
    assert session.family.schedule_key == "qwen2_vl_2b"
    assert session.family.schedule_shape.own_preset == "qwen2-vl-2b"
    assert Config(preset="auto").reduction_for(session.family.schedule_key).llm is None


def test_own_presets():
    keys = ("llava_next", "llava_onevision", "llava_onevision_tiny", "qwen2_vl", "qwen2_vl_2b", "qwen2_5_vl")
    expected = ["llava-next", "paper", "auto", "qwen2-vl", "qwen2-vl-2b", "qwen2.5-vl"]
    assert [own_preset(each) for each in keys] == expected
    assert set(expected) <= set(shipped("presets"))
