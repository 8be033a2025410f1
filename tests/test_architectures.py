"""The shipped architectures: as large as what they are of, and toys with the real geometry."""

import pytest
import torch
import yaml
from transformers import (
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from .builders import TOKENIZERS

ARCHITECTURES = TOKENIZERS.parents[2] / "configs" / "architectures"
CLASSES = {
    "gemma4": (Gemma4Config, Gemma4ForConditionalGeneration),
    "internvl": (InternVLConfig, InternVLForConditionalGeneration),
    "llava_next": (LlavaNextConfig, LlavaNextForConditionalGeneration),
    "llava_onevision": (LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration),
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3_5": (Qwen3_5Config, Qwen3_5ForConditionalGeneration),
    "qwen3_5_moe": (Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
    "qwen3_vl_moe": (Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration),
}
# Millions of parameters, as the hub counts them.
SIZES = {
    # without their audio tower: 305 in the first two
    "gemma-4-e2b": 4797,
    "gemma-4-e4b": 7632,
    "gemma-4-26b-a4b": 25806,
    "gemma-4-31b": 31273,
    "gemma-4-toy": 2,
    "internvl3-1b": 938,
    "internvl3-2b": 2089,
    "internvl3-8b": 7944,
    "internvl3-14b": 15117,
    "internvl3-38b": 38388,
    "internvl3-78b": 78408,
    "internvl3.5-1b": 1061,
    "internvl3.5-2b": 2348,
    "internvl3.5-4b": 4732,
    "internvl3.5-8b": 8528,
    "internvl3.5-14b": 15120,
    "internvl3.5-38b": 38390,
    "internvl3.5-30b-a3b": 30849,
    "internvl3.5-241b-a28b": 240699,
    "internvl-toy": 1,
    "llava-next-vicuna-7b": 7063,
    "llava-next-mistral-7b": 7567,
    "llava-next-vicuna-13b": 13351,
    "llava-next-34b": 34752,
    "llava-next-toy": 1,
    "llava-onevision-0.5b": 894,
    "llava-onevision-7b": 8031,
    "llava-onevision-72b": 73182,
    "llava-onevision-toy": 1,
    "qwen2-vl-2b": 2209,
    "qwen2-vl-7b": 8291,
    "qwen2-vl-72b": 73406,
    "qwen2-vl-toy": 1,
    "qwen2.5-vl-3b": 3755,
    "qwen2.5-vl-7b": 8292,
    "qwen2.5-vl-32b": 33453,
    "qwen2.5-vl-72b": 73411,
    "qwen2.5-vl-toy": 1,
    "qwen3-vl-2b": 2128,
    "qwen3-vl-4b": 4438,
    "qwen3-vl-8b": 8767,
    "qwen3-vl-32b": 33357,
    "qwen3-vl-30b-a3b": 31071,
    "qwen3-vl-235b-a22b": 235670,
    "qwen3-vl-toy": 2,
    "qwen3.5-0.8b": 853,
    "qwen3.5-2b": 2213,
    "qwen3.5-4b": 4539,
    "qwen3.5-9b": 9410,
    "qwen3.5-27b": 27357,
    "qwen3.5-35b-a3b": 35107,
    "qwen3.5-122b-a10b": 122563,
    "qwen3.5-397b-a17b": 396802,
    "qwen3.6-27b": 27357,
    "qwen3.6-35b-a3b": 35107,
    "qwen3.5-toy": 1,
}


def test_every_architecture_is_listed():
    assert {path.stem for path in ARCHITECTURES.glob("*.yaml")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_architecture_builds(name):
    architecture = yaml.safe_load((ARCHITECTURES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert architecture.keys() == {"description", "family", "config"}
    config_class, model_class = CLASSES[architecture["family"]]
    config = config_class(**architecture["config"])
    with torch.device("meta"):
        model = model_class(config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == SIZES[name]
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    tying = (
        "llava-onevision-0.5b",
        "qwen2-vl-2b",
        "qwen2.5-vl-3b",
        "qwen3-vl-2b",
        "qwen3-vl-4b",
        "qwen3.5-0.8b",
        "qwen3.5-2b",
        "qwen3.5-4b",
    )
    assert tied == (name in tying or name.startswith("gemma"))
    theta = {"llava-next-34b": 5e6, "llava-next-mistral-7b": 1e6}.get(name, 1e4) if "next" in name else 1e6
    theta = 5e6 if "qwen3-vl" in name and "toy" not in name else theta
    theta = 1e7 if name.startswith(("qwen3.5", "qwen3.6")) and "toy" not in name else theta
    rope = config.text_config.rope_parameters
    assert rope.get("full_attention", rope)["rope_theta"] == theta
    # No misspelt value: everything in the file is a field of its config class.
    written, known = architecture["config"], config.to_dict()
    assert written.keys() <= known.keys()
    for part in ("vision_config", "text_config"):
        others = getattr(config, part).attribute_map.keys() | {"tie_word_embeddings"}
        others |= {"global_head_dim", "num_global_key_value_heads"}  # are kept as settings of single layers
        assert written[part].keys() - others <= known[part].keys()


def load_config(name: str):
    architecture = yaml.safe_load((ARCHITECTURES / f"{name}.yaml").read_text(encoding="utf-8"))
    return CLASSES[architecture["family"]][0](**architecture["config"])


def test_toys_have_the_real_geometry():
    toy, real = load_config("llava-onevision-toy"), load_config("llava-onevision-7b")
    for field in ("image_grid_pinpoints", "vision_aspect_ratio", "vision_feature_layer"):
        assert getattr(toy, field) == getattr(real, field)
    for config in (toy, real):
        assert (config.vision_config.image_size // config.vision_config.patch_size) ** 2 == 729
    toy, real = load_config("llava-next-toy"), load_config("llava-next-vicuna-7b")
    for field in ("image_grid_pinpoints", "vision_feature_layer", "vision_feature_select_strategy"):
        assert getattr(toy, field) == getattr(real, field)
    for config in (toy, real):
        assert (config.vision_config.image_size // config.vision_config.patch_size) ** 2 == 576
    fields = ["patch_size", "spatial_merge_size", "temporal_patch_size"]
    for series, size, more in (
        ("qwen2-vl", "7b", []),
        ("qwen2.5-vl", "7b", ["window_size", "tokens_per_second"]),
        ("qwen3-vl", "8b", ["num_position_embeddings"]),
        ("qwen3.5", "9b", ["num_position_embeddings"]),
    ):
        toy, real = load_config(f"{series}-toy"), load_config(f"{series}-{size}")
        for field in (*fields, *more):
            assert getattr(toy.vision_config, field) == getattr(real.vision_config, field)
        for config in (toy, real):
            text_config = config.text_config
            head_dim = text_config.hidden_size // text_config.num_attention_heads
            head_dim = getattr(text_config, "head_dim", None) or head_dim
            rotated = int(head_dim * text_config.rope_parameters.get("partial_rotary_factor", 1))
            assert sum(text_config.rope_parameters["mrope_section"]) == rotated // 2
