"""What a family cannot do, and models that are none of them: one line that says what to do."""

import json

import pytest

from illava_cli.config import Config, resolve, validate
from illava_cli.engine.opening import load
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.planning import plan
from illava_cli.models.schedule import ScheduleShape
from tests.builders import write_internvl, write_qwen3_5

UNKNOWN = {
    "gemma4_unified": "illava does not know",
    "llavaonevision1_5": "transformers has no class: code of checkpoints is not run",
    "mllama": "illava does not know",
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_model_of_no_family(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UsageError, match=f"is a '{kind}' model.*{UNKNOWN[kind]}") as error:
        load(config=resolve(str(tmp_path), environ={}))
    assert "\n" not in str(error.value)
    assert "qwen3_vl" in str(error.value)


def merging(layer):
    fields = {"preset": "off", "layout": "faithful", "llm": {"layers": [layer], "keep": 0.5}}
    return validate(Config, fields, "test").reduction_for("qwen3_5")


HYBRID = ScheduleShape("Qwen3.5", "qwen3.5", 12, 24, None, 3, linear=tuple(n for n in range(24) if n % 4 < 3))


@pytest.mark.parametrize(
    ("layer", "near"), [(6, "4 or 8"), (7, "4 or 8"), (9, "8 or 12"), (2, "4 or 8"), (23, "16 or 20")]
)
def test_a_decoder_merge_that_linear_attention_cannot_rank(layer, near):
    """A layer of full attention is the last of every four: tokens can be ranked before 4, 8, ... 20."""
    said = f"cannot be ranked before {layer}, as layer {layer - 1} has linear attention: name {near}$"
    with pytest.raises(UsageError, match=said):
        plan(merging(layer), HYBRID, "image")
    assert plan(merging(8), HYBRID, "image").decoder[0][0] == 8


def test_a_schedule_is_refused_when_the_model_is_loaded(tmp_path):
    folder = write_qwen3_5(tmp_path / "checkpoint")
    settings = ["preset=off", "layout=faithful", "llm={layers: [3], keep: 0.5}"]
    with pytest.raises(UsageError, match="layer 2 has linear attention: name 2 or 4"):
        load(config=resolve(str(folder), settings=settings, environ={}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_feature_layer": -2}, "vision_feature_layer other than -1"),
        ({"text_config": {"sliding_window": 64, "use_sliding_window": True}}, "sliding-window layers"),
    ],
)
def test_an_internvl_of_another_build(changes, said, tmp_path):
    folder = write_internvl(tmp_path / "checkpoint")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    config["text_config"].pop("layer_types", None)
    config["text_config"]["max_window_layers"] = 2
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=said):
        load(config=resolve(str(folder), environ={}))
