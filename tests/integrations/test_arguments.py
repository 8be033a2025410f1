"""`--model_args`, in this package's words and in the harness's."""

import pytest

from illava_cli.errors import UsageError
from illava_cli.integrations.lmms.arguments import batch_size, configuration


@pytest.mark.parametrize("word", ["pretrained", "model"])
def test_the_model_has_the_harness_s_names(word):
    config = configuration({word: "tiny", "preset": "off", "device": "cpu", "dtype": "float32"})
    assert (config.model.id, config.preset) == ("tiny", "off")
    assert (config.model.device, config.model.dtype) == ("cpu", "float32")


def test_a_yaml_file_is_a_whole_configuration_and_the_arguments_are_stronger(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {id: tiny, attn: eager}\npreset: paper\nmedia: {num_frames: 4}\n")
    config = configuration({"config": str(path), "preset": "auto"})
    assert (config.model.id, config.model.attn) == ("tiny", "eager")
    assert (config.preset, config.media.num_frames) == ("auto", 4)


def test_settings_go_by_other_models_names_or_in_full():
    config = configuration(
        {
            "pretrained": "tiny",
            "attn_implementation": "sdpa",
            "max_frames_num": 8,
            "max_new_tokens": 32,
            "min_pixels": 3136,
            "max_pixels": "100352",
            "llm.keep": 0.5,
            "layout": "faithful",
            "device": None,
        }
    )
    assert (config.model.attn, config.model.device) == ("sdpa", "auto")
    assert (config.media.num_frames, config.generation.max_tokens) == (8, 32)
    assert (config.media.min_pixels, config.media.max_pixels) == (3136, 100352)
    assert (config.llm.keep, config.layout) == (0.5, "faithful")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": "tiny", "prest": "off"}, "unknown setting 'prest'; did you mean 'preset'"),
        ({"pretrained": "tiny", "llm.kep": 1}, "unknown key 'llm.kep'; did you mean 'keep'"),
        ({"pretrained": "tiny", "config": "x.yaml"}, "give one of config and pretrained"),
        ({"pretrained": "tiny", "preset": "of"}, "unknown preset 'of'"),
        ({"config": "missing.yaml"}, "cannot read missing.yaml"),
    ],
)
def test_a_mistake_is_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        configuration(arguments)


def test_the_batch_size_is_a_number():
    assert [batch_size(1), batch_size("8")] == [1, 8]
    for wrong in ("auto", "0", -1, None):
        with pytest.raises(UsageError, match="batch_size must be"):
            batch_size(wrong)
