"""Settings: every shipped YAML loads, overrides win in their order, and mistakes name the near miss."""

import json
import re

import pytest

from illava_cli.config import (
    load_preset,
    preset_names,
    read_yaml,
    resolve,
    shipped,
)
from illava_cli.errors import UsageError
from illava_cli.families import FAMILIES, family_name
from illava_cli.models import family_class
from illava_cli.models.catalog import EMBEDDED


@pytest.mark.parametrize("name", shipped("models"))
def test_every_shipped_model_resolves(name):
    config = resolve(name, environ={})
    assert name in EMBEDDED or config.model.id.count("/") == 1


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads(name):
    preset = load_preset(name)
    assert preset.description or preset.reduction.description
    for reduction in (preset.by_family or {"": preset.reduction}).values():
        assert reduction is not None


def test_a_preset_may_change_another(tmp_path):
    """Every schedule in it, and only what its file says; a command line's settings come after both."""
    path = tmp_path / "mine.yaml"
    path.write_text("base: auto\nlayout: faithful\nvision: {method: kmeans}\nllm: null\n")
    changed, base = load_preset(str(path)), load_preset("auto")
    assert changed.by_family.keys() == base.by_family.keys()
    assert changed.min_visual_tokens == base.min_visual_tokens
    vision = base.by_family["qwen2_vl"].vision
    assert changed.by_family["qwen2_vl"].vision == vision.model_copy(update={"method": "kmeans"})
    assert changed.by_family["llava_onevision"].vision.video.method == "kmeans"
    assert all(reduction.llm is None for reduction in changed.by_family.values())
    overrides = {"preset": str(path), "vision": {"method": "random"}}
    assert resolve("qwen2-vl-7b", overrides=overrides).reduction_for("qwen2_vl").vision.method == "random"


def test_best_is_auto_with_another_method_in_the_tower():
    for family, reduction in load_preset("best").by_family.items():
        auto = load_preset("auto").by_family[family].model_dump(exclude_unset=True)
        changed = reduction.model_dump(exclude_unset=True)
        vision = changed.pop("vision")
        media = tuple(vision.values()) if "image" in vision else (vision,)
        assert {stage["method"] for stage in media} == {"diversity-assign"}
        expected = re.sub('"(illava|bipartite)"', '"diversity-assign"', json.dumps(auto.pop("vision")))
        assert (vision, changed) == (json.loads(expected), auto)


def test_a_preset_may_begin_with_nothing(tmp_path):
    """YAML reads a bare `off` as false."""
    path = tmp_path / "mine.yaml"
    path.write_text("base: off\nllm: {layers: [3], keep: 0.5}\n")
    assert load_preset(str(path)).reduction.llm.layers == [3]
    assert load_preset(str(path)).reduction.vision is None


@pytest.mark.parametrize("text", ["base: {me}\n", "base: nothing\n", "base: auto\nlayers: 3\n"])
def test_a_base_that_cannot_be(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text.format(me=path))
    said = r"leads back to itself|unknown preset 'nothing'|unknown key 'layers'"
    with pytest.raises(UsageError, match=said):
        load_preset(str(path))


def test_the_paper_preset_is_the_papers():
    reduction = resolve("llava-onevision-7b", overrides={"preset": "paper"}, environ={}).reduction_for(
        "llava_onevision"
    )
    assert (reduction.vision.layers, reduction.vision.r) == ([3, 4, 5, 6], 92)
    assert reduction.llm.keep == pytest.approx(253 / 361)
    assert (reduction.variant, reduction.layout, reduction.llm.queries) == ("paper", "grid", "visual-literal")


def test_command_line_over_environment_over_yaml_over_default(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("model: {id: a/b, dtype: float16, attn: eager}\ngeneration: {max_tokens: 3, seed: 1}\n")
    environ = {"ILLAVA_DTYPE": "bfloat16", "ILLAVA_MAX_TOKENS": "4"}
    config = resolve(str(path), overrides={"generation": {"max_tokens": 5}}, environ=environ)
    assert (config.model.dtype, config.model.attn) == ("bfloat16", "eager")
    assert (config.generation.max_tokens, config.generation.seed, config.generation.top_p) == (5, 1, 1.0)
    strongest = resolve(
        str(path),
        overrides={"generation": {"max_tokens": 5}},
        settings=["generation.max_tokens=6"],
        environ=environ,
    )
    assert strongest.generation.max_tokens == 6


def test_one_way_of_sampling_frames_replaces_the_other():
    assert resolve("qwen2-vl-2b", settings=["media.fps=2"], environ={}).media.num_frames is None
    environ = {"ILLAVA_NUM_FRAMES": "7"}
    media = resolve("qwen2-vl-2b", overrides={"media": {"fps": 2}}, environ=environ).media
    assert (media.fps, media.num_frames) == (2, None)
    with pytest.raises(UsageError, match="exclude one another"):
        resolve("qwen2-vl-2b", overrides={"media": {"fps": 2, "num_frames": 3}}, environ={})


def test_bounds_on_pixels_come_from_everywhere(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("model: {id: a/b}\nmedia: {min_pixels: 784, max_pixels: 9000}\n")
    assert resolve(str(path), environ={}).media.max_pixels == 9000
    environ = {"ILLAVA_MIN_PIXELS": "3136", "ILLAVA_MAX_PIXELS": "8000"}
    media = resolve(str(path), settings=["media.max_pixels=7000"], environ=environ).media
    assert (media.min_pixels, media.max_pixels) == (3136, 7000)
    with pytest.raises(UsageError, match=r"min_pixels \(3136\) is over max_pixels \(100\)"):
        resolve(str(path), overrides={"media": {"max_pixels": 100}}, environ=environ)


def test_overrides_change_part_of_a_preset():
    def reduction(*settings):
        config = resolve("a/b", settings=["preset=video", *settings], environ={})
        return config.reduction_for("llava_onevision")

    assert reduction("llm.keep=1/2").llm.model_dump(exclude_unset=True) == {
        "method": "illava",
        "layers": [2],
        "keep": 0.5,
        "queries": "last",
    }
    dropped = reduction("vision.drop=0.1").vision
    assert (dropped.drop, dropped.r, dropped.layers) == (0.1, None, [3, 4, 5, 6])
    assert reduction("vision=null").vision is None
    auto = resolve("a/b", settings=["vision.r=7"], environ={}).reduction_for("llava_onevision")
    assert (auto.vision.image.r, auto.vision.video.r, auto.vision.video.layers) == (7, 7, [3, 4, 5, 6])


@pytest.mark.parametrize(
    ("change", "image", "video"),
    [
        ("vision.r=20", ([4, 5], 20), None),
        ("vision.layers=[4]", ([4], 30), None),
        ("vision={layers: [3], r: 10}", ([3], 10), ([3], 10)),
    ],
)
def test_a_medium_that_is_left_whole_merges_only_by_a_whole_stage(change, image, video):
    """Preset auto merges clips nowhere in `tiny`'s tower."""
    config = resolve("tiny", settings=["preset=auto", change], environ={})
    vision = config.reduction_for("llava_onevision_tiny").vision
    assert (vision.image.layers, vision.image.r) == image
    assert (vision.video and (vision.video.layers, vision.video.r)) == video


def test_overrides_for_one_medium_leave_the_other():
    def reduction(preset, *settings):
        config = resolve("a/b", settings=[f"preset={preset}", *settings], environ={})
        return config.reduction_for("llava_onevision")

    auto = reduction("auto", "vision.image.r=64", "llm.video.keep=0.5")
    assert (auto.vision.image.r, auto.vision.image.layers) == (64, [5, 6, 7, 8])
    assert (auto.vision.video.r, auto.vision.video.layers) == (92, [3, 4, 5, 6])
    assert (auto.llm.image.keep, auto.llm.video.keep, auto.llm.video.layers) == (0.7, 0.5, [2])
    paper = reduction("paper", "vision.video.r=64")
    assert (paper.vision.image.r, paper.vision.video.r) == (92, 64)
    assert paper.vision.video.layers == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (["llm.keeep=1"], "unknown key 'llm.keeep'; did you mean 'keep'?"),
        (["vison.r=3"], "did you mean 'vision'?"),
        (["llm.keep=2"], "llm.keep: input should be less than or equal to 1"),
        (["llm.keep=1/0"], "not a fraction"),
        (["media.num_frames=0"], "media.num_frames"),
        (["preset=papr"], "did you mean 'paper'?"),
        (["nonsense"], "expected name=value"),
        (["media.start=3", "media.end=2"], "must lie before end"),
        (["generation.temperature=1e-300"], "0 (greedy) or at least"),
        (["model.id=a/b..c"], "unknown model"),
        (["model.id=" + "a" * 5000], "unknown model"),
    ],
)
def test_mistakes_are_one_line(settings, part):
    with pytest.raises(UsageError) as error:
        resolve("a/b", settings=settings, environ={})
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bare_off_in_yaml_is_the_preset(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("model: {id: a/b}\npreset: off\n")
    assert resolve(str(path), environ={}).preset == "off"


@pytest.mark.parametrize(
    ("preset", "family", "line"),
    [
        ("image", "llava_next", "preset 'image' is for LLaVA-OneVision: use llava-next or auto"),
        ("paper", "qwen2_5_vl", "preset 'paper' is for LLaVA-OneVision: use qwen2.5-vl or auto"),
        ("qwen2-vl", "llava_next", "preset 'qwen2-vl' is for Qwen2-VL: use llava-next or auto"),
        ("qwen2-vl", "qwen2_5_vl", "preset 'qwen2-vl' is for Qwen2-VL: use qwen2.5-vl or auto"),
        (
            "llava-next",
            "qwen2_vl_2b",
            "preset 'llava-next' is for LLaVA-NeXT: use qwen2-vl-2b or qwen2-vl or auto",
        ),
        (
            "qwen2.5-vl",
            "llava_onevision",
            "preset 'qwen2.5-vl' is for Qwen2.5-VL: use image or paper or video or auto",
        ),
    ],
)
def test_a_preset_of_another_family_names_its_own(preset, family, line):
    config = resolve("a/b", settings=[f"preset={preset}", "vision.layers=[1]"], environ={})
    with pytest.raises(UsageError) as error:
        config.reduction_for(family)
    assert str(error.value) == line


def test_every_family_has_a_preset_and_a_name():
    keys = load_preset("auto").by_family.keys()
    assert keys == {key for name in preset_names() for key in load_preset(name).families or ()}
    named = {FAMILIES[entry.schedules or key].name for key, entry in FAMILIES.items()}
    assert {family_name(key) for key in keys} == named


@pytest.mark.parametrize("key", FAMILIES)
def test_a_registered_family_is_the_class_of_its_key(key):
    family = family_class(key, "here")
    assert family.key == key == family.stock_class.config_class.model_type


def test_a_preset_file_is_for_any_family_unless_it_says_so(tmp_path):
    def schedule(text):
        path = tmp_path / f"{len(text)}.yaml"
        path.write_text(text + "vision: {layers: [1], drop: 0.3}")
        return resolve("a/b", settings=[f"preset={path}"], environ={}).reduction_for("qwen2_5_vl")

    assert schedule("").vision.drop == schedule("families: [qwen2_5_vl]\n").vision.drop == 0.3
    with pytest.raises(UsageError, match=r"is for Qwen2-VL: use qwen2\.5-vl or auto"):
        schedule("families: [qwen2_vl]\n")


def test_a_base_is_relative_to_its_own_file(tmp_path, monkeypatch):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "one.yaml").write_text("base: deep/two.yaml\nlayout: grid\n")
    (tmp_path / "mine" / "deep" / "two.yaml").write_text("base: ../three.yml\npositions: packed\n")
    (tmp_path / "mine" / "three.yml").write_text("llm: {layers: [3], keep: 0.5}\n")
    for place, name in ((tmp_path, "mine/one.yaml"), (tmp_path / "mine" / "deep", "../one.yaml")):
        monkeypatch.chdir(place)
        load_preset.cache_clear()
        reduction = load_preset(name).reduction
        assert (reduction.llm.layers, reduction.positions, reduction.layout) == ([3], "packed", "grid")
    load_preset.cache_clear()


def test_a_base_that_leads_back_by_another_way_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "one.yaml").write_text("base: deep/two.yaml\n")
    (tmp_path / "deep" / "two.yaml").write_text("base: ../one.yaml\n")
    with pytest.raises(UsageError, match=r"base '\.\./one\.yaml' leads back to itself"):
        load_preset("one.yaml")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("generation.max_tokens", "true"),
        ("generation.temperature", "no"),
        ("generation.stop", "[yes]"),
        ("media.fps", "on"),
        ("vision.r", "true"),
        ("vision.layers", "[true]"),
        ("llm.keep", "true"),
        ("llm.keep", "[0.5, true]"),
        ("model.feature_cache_mb", "off"),
        ("model.attn", "off"),
    ],
)
def test_true_and_false_are_no_numbers(key, said):
    with pytest.raises(UsageError, match=rf"{key}\S*: must not be (true|false) \(in YAML"):
        resolve("tiny", settings=[f"{key}={said}"], environ={})
    assert resolve("tiny", settings=["model.compile=yes", "preset=off"], environ={}).preset == "off"


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_yaml_as_other_programs_write_it(tmp_path, form, end):
    path = tmp_path / "mine.yaml"
    path.write_bytes(end.join(["model: {id: tiny}", "generation:", "  system: Größe", ""]).encode(form))
    assert read_yaml(path)["generation"] == {"system": "Größe"}
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(UsageError, match=r"mine\.yaml, line 2: not UTF-8 text"):
        read_yaml(path)


@pytest.mark.parametrize("value", ["0", "-1", ".nan", ".inf", "1e99", "soon"])
def test_a_time_limit_that_is_none_is_refused(value):
    with pytest.raises(UsageError, match="media_timeout"):
        resolve("tiny", settings=[f"media.media_timeout={value}"], environ={})


@pytest.mark.parametrize("setting", ["temperature=.inf", "temperature=1e39", "repetition_penalty=1e-46"])
def test_a_setting_that_makes_no_numbers_of_scores_is_refused(setting):
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        resolve("tiny", settings=[f"generation.{setting}"], environ={})
