"""The settings of decoding, and what of all settings is in a run's identity."""

import pytest

from illava_cli.config import Config, GenerationOptions, load_preset, resolve
from illava_cli.config.options import LATER
from illava_cli.errors import UsageError

DECODING = {
    "top_k": (40, "-1", "1.5", "true"),
    "min_p": (0.05, "-0.1", "1.1", ".nan"),
    "repetition_penalty": (1.1, "0", ".inf", ".nan"),
    "presence_penalty": (-2.0, "-2.1", ".nan", "on"),
    "frequency_penalty": (2.0, "2.1", ".nan", "off"),
    "logit_bias": ({5: -100.0, 0: 1.5}, "{-1: 1}", "{5: 101}", "{5: .nan}", "{x: 1}", "{5: on}", "[5]", "7"),
    "stop_token_ids": ([0, 7], "[-1]", "[x]", "[on]", "{5: 1}", "word"),
    "ignore_eos": (True, "5", "word"),
    "logprobs": (0, "-1", "21", "1.5", "true"),
    "json_schema": ('{"type": "integer"}', "[1]", "7", "word", "true", '{"enum": [.nan]}', "{a: 2000-01-01}"),
    "thinking": (True, "5", "word"),
}


def test_the_hash_follows_a_presets_content(tmp_path):
    path = tmp_path / "mine.yaml"
    hashes = set()
    for keep in (0.5, 0.25):
        path.write_text(f"llm: {{layers: [2], keep: {keep}}}\n")
        load_preset.cache_clear()
        hashes.add(resolve("a/b", overrides={"preset": str(path)}, environ={}).hash())
    assert len(hashes) == 2


def test_the_hash_does_not_follow_a_presets_words(tmp_path):
    path = tmp_path / "mine.yaml"
    hashes = set()
    for words in ("one", "another"):
        for body in ("llm: {layers: [2], keep: 0.5}", f"by_family: {{qwen2_vl: {{description: {words}}}}}"):
            path.write_text(f"description: {words}\n{body}\n")
            load_preset.cache_clear()
            hashes.add(resolve("a/b", overrides={"preset": str(path)}, environ={}).hash())
    assert len(hashes) == 2


def test_the_hash_tells_configurations_apart():
    hashes = {
        resolve("a/b", settings=list(settings), environ={}).hash()
        for settings in (
            (),
            ("preset=off",),
            ("vision=null",),
            ("llm=null",),
            ("llm.keep=0.5",),
            ("seed=1",)[:0],
        )
    }
    assert len(hashes) == 5
    assert resolve("a/b", environ={}).hash() == Config(model={"id": "a/b"}).hash()


def test_the_time_limit_of_media_is_in_no_identity():
    """It decides whether there is an answer, not which: a run goes on under another one."""
    assert Config().media.media_timeout == 120
    other = resolve("tiny", settings=["media.media_timeout=7"], environ={})
    assert other.media.media_timeout == 7
    assert other.hash() == resolve("tiny", environ={"ILLAVA_MEDIA_TIMEOUT": "null"}).hash()
    assert "media_timeout" not in str(other.identity())


@pytest.mark.parametrize("name", DECODING)
def test_a_setting_of_the_decoding_is_checked(name):
    value, *wrong = DECODING[name]
    setting = f"generation.{name}={value}"
    assert getattr(resolve("a/b", settings=[setting], environ={}).generation, name) == value
    for text in wrong:
        with pytest.raises(UsageError, match=rf"generation\.{name}"):
            resolve("a/b", settings=[f"generation.{name}={text}"], environ={})


def test_settings_in_a_table_are_texts():
    """As a CSV manifest holds them, and in OpenAI's form, where ids are texts as well."""
    cells = {"top_k": "5", "logit_bias": '{"5": -1}', "stop_token_ids": "[7, 8]", "logprobs": "2"}
    checked = GenerationOptions.model_validate(cells)
    assert (checked.top_k, checked.logit_bias, checked.stop_token_ids) == (5, {5: -1.0}, [7, 8])
    assert GenerationOptions(stop_token_ids="9").stop_token_ids == [9]
    again = GenerationOptions.model_validate(checked.model_dump(mode="json"))
    assert again == checked


def test_hashes_are_those_of_earlier_journals():
    """Of a version that had no field of `LATER`; one that does nothing is in no identity."""
    settings = ["preset=off", "generation.max_tokens=9", "llm.keep=0.5", "positions=original"]
    assert Config(model={"id": "a/b"}, preset="off").hash() == "ad6507e635b0"
    config = resolve("a/b", settings=settings, environ={})
    assert config.hash() == "60ef867666fd"
    said = [f"generation.{name}={field.default}" for name, field in GenerationOptions.model_fields.items()]
    said = [setting.replace("None", "null") for setting in said if setting.split(".")[1].startswith(LATER)]
    assert len(said) == len(LATER)
    assert resolve("a/b", settings=[*settings, *said], environ={}).hash() == config.hash()
    sampled = resolve("a/b", settings=["generation.temperature=0.5"], environ={})
    assert sampled.identity()["draws"] == 2  # journals of other random numbers are not gone on with
    assert "draws" not in config.identity()


@pytest.mark.parametrize("name", DECODING)
def test_a_setting_that_does_something_is_in_the_hash(name):
    assert tuple(DECODING) == LATER
    changed = resolve("a/b", settings=[f"generation.{name}={DECODING[name][0]}"], environ={})
    assert changed.hash() != resolve("a/b", environ={}).hash()
    assert name in changed.identity()["generation"]


def test_schedules_that_a_models_own_file_names_are_in_no_identity():
    """They were read off its width before; another choice is told."""
    tiny = resolve("tiny", environ={})
    assert tiny.model.schedule is not None
    assert "schedule" not in tiny.identity()["model"]
    other = resolve("tiny", settings=["model.schedule=llava_onevision"], environ={})
    assert other.hash() != tiny.hash()


def test_a_bound_on_frames_is_in_the_hash_where_there_is_one():
    bounded = resolve("a/b", settings=["media.fps=2", "media.max_frames=8"], environ={})
    assert bounded.identity()["media"]["max_frames"] == 8
    assert bounded.hash() != resolve("a/b", settings=["media.fps=2"], environ={}).hash()


@pytest.mark.parametrize("name", ["min_pixels", "max_pixels"])
def test_a_bound_on_pixels_is_in_the_hash_where_there_is_one(name):
    bounded = resolve("a/b", settings=[f"media.{name}=5000"], environ={})
    assert bounded.identity()["media"][name] == 5000
    plain = resolve("a/b", settings=[f"media.{name}=null"], environ={})
    assert name not in plain.identity()["media"]
    assert bounded.hash() != plain.hash() == resolve("a/b", environ={}).hash()


def test_a_stage_is_in_the_hash_where_there_is_one(tmp_path):
    off = resolve("a/b", settings=["preset=off"], environ={})
    assert {"pixels", "frames"}.isdisjoint(off.identity()["schedule"]["reduction"])
    assert "predictable" not in off.identity()["schedule"]
    for number, stage in enumerate(("pixels: {tau: 0}", "frames: {still: 1}", "layout: grid")):
        preset = tmp_path / f"{number}.yaml"
        preset.write_text(stage, encoding="utf-8")
        changed = resolve("a/b", settings=[f"preset={preset}"], environ={})
        assert (stage.partition(":")[0] in ("pixels", "frames")) == (
            not {"pixels", "frames"}.isdisjoint(changed.identity()["schedule"]["reduction"])
        )
    assert resolve("a/b", environ={}).identity()["schedule"]["predictable"] == 0.5
