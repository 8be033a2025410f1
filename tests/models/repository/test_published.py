"""What the configurations of the published checkpoints say, and how it is read."""

import json
import shutil
import warnings

import pytest
import yaml

from illava_cli.config import resolve, shipped
from illava_cli.models import family_class
from illava_cli.models.catalog import read_config
from illava_cli.models.repository import translate
from illava_cli.models.sizes import schedule_key
from tests.models.repository.checkpoints import open_checkpoint

PUBLISHED = {
    "llava-onevision-7b": {
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_newline_position": "one_token",
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_act": "silu",
        "hidden_size": 3584,
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": "(1x1),...,(6x6)",
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "mm_hidden_size": 1152,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "llava",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 152064,
    },
    "llava-next-vicuna-7b": {
        "architectures": ["LlavaLlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "mm_hidden_size": 1024,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "model_type": "llava",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_the_shipped_architecture(name):
    """But for the rows that padding adds to the vocabulary."""
    translated = translate(PUBLISHED[name], name)
    spec = yaml.safe_load(shipped("architectures")[name].read_text())
    assert translated["model_type"] == spec["family"]
    model_class = family_class(spec["family"], name).stock_class
    ours, theirs = (
        model_class.config_class(**{k: v for k, v in config.items() if k != "model_type"})
        for config in (spec["config"], translated)
    )
    for part in ("vision_config", "text_config"):
        for key in spec["config"][part].keys() - {"vocab_size"}:
            assert getattr(getattr(theirs, part), key) == getattr(getattr(ours, part), key), key
    for key in spec["config"].keys() - {"vision_config", "text_config", "image_grid_pinpoints"}:
        assert getattr(theirs, key) == getattr(ours, key), key
    assert sorted(theirs.image_grid_pinpoints) == sorted(ours.image_grid_pinpoints)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("(1x1),...,(2x3)", [[336 * h, 336 * w] for w in (1, 2) for h in (1, 2, 3)]),
        ("[(336, 672), [672, 1008]]", [[672, 336], [1008, 672]]),
        ([[336, 672]], [[672, 336]]),  # width and height there, height and width here
    ],
)
def test_pinpoints(value, expected):
    config = PUBLISHED["llava-next-vicuna-7b"] | {"image_grid_pinpoints": value}
    assert translate(config, "x")["image_grid_pinpoints"] == expected


def test_the_schedule_is_known_before_loading(pair):
    config = resolve(str(pair("v1.6 mistral")[0]), environ={})
    assert schedule_key(config) == "llava_next"
    assert read_config(pair("onevision")[0])["model_type"] == "llava_onevision"


@pytest.mark.parametrize("kind", ["onevision", "v1.6 vicuna"])
@pytest.mark.parametrize("layout", ["llava", "hf"])
@pytest.mark.parametrize("model_type", [None, "llava_mistral"])
def test_no_rope_scaling_is_no_news(kind, layout, model_type, pair, tmp_path):
    """`"rope_scaling": null` is what most of them say; another library's warning was printed of it."""
    source = pair(kind)[layout == "hf"]
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | {"rope_scaling": None}
    if layout == "hf":
        config["text_config"] |= {"rope_scaling": None}
    elif model_type:
        config["model_type"] = model_type
    (folder / "config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = open_checkpoint(folder)
    plain = open_checkpoint(source)
    assert session.model.config.text_config.rope_parameters == plain.model.config.text_config.rope_parameters
    assert session.family.tokenizer.get_vocab() == plain.family.tokenizer.get_vocab()
