"""`illava bench` on toys, in this process: the report's form, and what it refuses."""

import importlib.util
import json
import os
import threading

import pytest

from illava_cli.bench.compare import compare
from illava_cli.bench.lab import Plan
from illava_cli.bench.media import synthetic_image
from illava_cli.bench.profiling import PARTS, profile
from illava_cli.cli.app import main
from illava_cli.engine import media as reading
from illava_cli.models import tower
from tests.conftest import picture

LLAVA, QWEN = ["-m", "random:llava-onevision-toy"], ["-m", "random:qwen2-vl-toy"]
QUICK = ["--device", "cpu", "--repeats", "1", "--new-tokens", "2", "--format", "json"]
SPREAD = {"median", "min", "max"}


@pytest.fixture
def bench(capsys):
    def run(*arguments):
        code = main(["bench", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def small(checkpoints, schedule):
    """The flags for a small checkpoint and a schedule that fits it."""

    def flags(family):
        return ["-m", checkpoints(family), "--preset", schedule(family)]

    return flags


@pytest.fixture
def report(bench):
    def run(*arguments):
        code, out, err = bench(*arguments)
        assert code == 0, err
        return json.loads(out)

    return run


def test_report(report):
    found = report(*LLAVA, *QUICK)
    assert found["settings"] == {"new_tokens": 2, "repeats": 1}
    assert found["machine"]["command"].startswith("illava")
    assert found["model"]["id"] == "random:llava-onevision-toy"
    (result,) = found["results"]
    assert result["medium"]["tiles"] == result["batch_size"] == 1
    assert list(result["variants"]) == ["transformers", "paper", "off"]
    for name, variant in result["variants"].items():
        stages = {"media", "vision", "prefill", "ttft", "decoding", "per_token", "request"}
        assert variant["seconds"].keys() == stages
        assert all(spread.keys() == SPREAD for spread in variant["seconds"].values())
        assert variant["requests_per_s"].keys() == variant["tokens_per_s"].keys() == SPREAD
        assert len(variant["flops"]["by_part"]["tower"]) == 10
        compared = {"speedup", "bound", "efficiency"} & variant.keys()
        assert len(compared) == (0 if name == "transformers" else 3)
    visual = {name: v["tokens"]["visual"] for name, v in result["variants"].items()}
    assert list(visual["paper"].values()) == [729, 361, 361, 253, 1, 1, 730, 0, 0, 0]
    assert visual["off"] == visual["transformers"]
    paper, off = result["variants"]["paper"], result["variants"]["off"]
    assert off["bound"] == dict.fromkeys(("vision", "prefill", "ttft", "request"), 1.0)
    assert paper["bound"]["vision"] > 1
    assert paper["over_off"].keys() == {"speedup", "bound", "efficiency"}
    assert paper["efficiency"]["vision"] == paper["speedup"]["vision"]["median"] / paper["bound"]["vision"]


def test_presets_media_and_batches(report, small):
    found = report(
        *(*small("llava_onevision"), "--preset", "off", *QUICK, "--tiles", 2, "--frames", 2),
        *("--batch-size", 1, "--batch-size", 2),
    )
    cases = [(r["medium"]["label"], r["batch_size"]) for r in found["results"]]
    assert cases == [("2 tiles", 1), ("2 tiles", 2), ("2 frames", 1), ("2 frames", 2)]
    assert [list(r["variants"]) for r in found["results"]] == [["transformers", "merging", "off"]] * 4
    assert len(found["batching"]) == 6
    assert found["model"]["id"] == "checkpoint"


def test_without_time_only_two_variants_are_measured(lab):
    small = lab("llava_onevision")
    (result,) = compare(
        small, [synthetic_image(1, small.family)], [1], Plan(2, 3, deadline=0.0), lambda text: None
    )
    assert list(result["variants"]) == ["transformers", "merging"]
    assert result["left_out"] == ["off"]
    assert result["variants"]["merging"]["rounds"] == 1


@pytest.mark.parametrize("name", ["gemma-4", "internvl", "qwen2-vl", "qwen2.5-vl", "qwen3-vl", "qwen3.5"])
def test_a_family_has_its_own_preset(name, report):
    (result,) = report("-m", f"random:{name}-toy", *QUICK)["results"]
    assert list(result["variants"]) == ["transformers", name, "off"]
    kept = result["variants"][name]["tokens"]["visual"]
    assert kept["llm_kept"] <= kept["llm_in"] < kept["patches"] // 4
    # the paper's of InternVL is of the tower alone
    assert (kept["llm_kept"] < kept["llm_in"]) == (name not in ("gemma-4", "internvl"))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", [(), ("--profile",), ("--tower",), ("--rivals",)])
def test_on_cuda(mode, report):
    media = [] if "--rivals" in mode else ["--frames", 2]
    found = report(*LLAVA, "--device", "cuda", "--repeats", 1, "--format", "json", *mode, *media)
    assert found["model"]["device"].startswith("cuda")
    assert found["machine"]["gpus"]
    for result in found.get("results", []):
        assert all(v["peak_bytes_beyond_weights"] > 0 for v in result["variants"].values())


def test_real_media_and_save(bench, small, tmp_path):
    image, saved = tmp_path / "cat.png", tmp_path / "report.json"
    picture(300, 200).save(image)
    quick = ["--device", "cpu", "--repeats", 1, "--new-tokens", 1, "--max-tiles", 1]
    code, out, err = bench(*small("llava_onevision"), *quick, "--image", image, "--save", saved)
    assert (code, out) == (0, "")
    assert "speed-up, first token" in err
    text = saved.read_text()
    assert json.loads(text)["results"][0]["medium"]["label"] == "cat.png"
    assert str(tmp_path) not in text


def test_what_can_be_read_once_is_measured_again_and_again(bench, small, tmp_path):
    image, pipe, saved = tmp_path / "cat.png", tmp_path / "pipe.png", tmp_path / "report.json"
    picture(30, 20).save(image)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(image.read_bytes()), daemon=True)
    writer.start()
    quick = ["--device", "cpu", "--repeats", 2, "--new-tokens", 1, "--max-tiles", 1]
    code, _, err = bench(*small("llava_onevision"), *quick, "--image", pipe, "--save", saved)
    assert code == 0, err
    assert json.loads(saved.read_text())["results"][0]["medium"]["label"] == "pipe.png"


@pytest.mark.parametrize(
    ("family", "medium"),
    [
        ("llava_next", "--tiles"),
        ("llava_onevision", "--frames"),
        ("qwen2_vl", "--frames"),
        ("qwen2_5_vl", "--frames"),
        ("qwen3_vl", "--frames"),
        ("qwen3_5", "--frames"),
        ("internvl", "--frames"),
    ],
)
def test_profile_has_every_part(family, medium, report, small):
    media = {"--tiles": ["--tiles", 3], "--frames": ["--frames", 2]}[medium]
    (result,) = report(*small(family), "--preset", "off", *QUICK, "--profile", *media)["profile"]
    assert list(result["variants"]) == ["transformers", "merging", "off"]
    for name, variant in result["variants"].items():
        seconds = variant["seconds"]
        assert tuple(seconds) == PARTS
        assert all(value >= 0 for value in seconds.values())
        assert sum(seconds.values()) == pytest.approx(variant["whole_s"])
        assert sum(variant["share"].values()) == pytest.approx(1)
        used = {"decode", "preprocess", "tower", "packing", "prefill", "decoding"}
        assert all(seconds[part] > 0 for part in used)
        for stage, rest in (("tower", "tower"), ("llm", "prefill")):
            scoring, merging = seconds[f"{stage}_scoring"], seconds[f"{stage}_merging"]
            assert (scoring > 0) == (merging > 0) == (name == "merging")
            share = (scoring + merging) / (scoring + merging + seconds[rest])
            assert variant["reduction_share"][rest] == pytest.approx(share)


def test_profile_leaves_nothing_behind(lab):
    small = lab("llava_onevision")

    def state():
        models = (small.session.model, small.stock)
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for x in models for m in x.modules()]
        return reading.read_picture, tower.TowerPass.score, tower.TowerTokens.after, hooks

    medium = synthetic_image(1, small.family)
    for variant in small.variants(medium, 1).values():
        variant.run([medium.fresh(0)], 1)  # transformers adds hooks of its own in a first pass
    before = state()
    profile(small, [medium], Plan(1, 1), lambda text: None)
    assert state() == before
    assert not any("get_image_features" in vars(model.model) for model in (small.session.model, small.stock))
    assert not {"preprocess_image", "lay_out", "resize_frame"} & vars(small.family).keys()


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_tower(family, report, small):
    results = report(*small(family), *QUICK, "--tower", "--frames", 1, "--frames", 2)["tower"]
    assert [r["medium"]["frames"] for r in results] == [1, 2]
    assert all(r["variants"]["merging"]["seconds"].keys() == SPREAD for r in results)


@pytest.mark.needs("matplotlib")
def test_plot(report, small, tmp_path):
    path = tmp_path / "tower.png"
    report(*small("llava_onevision"), *QUICK, "--tower", "--frames", 1, "--frames", 2, "--plot", path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.needs("matplotlib")
def test_a_profile_as_a_picture(report, small, tmp_path):
    path = tmp_path / "parts.png"
    report(*small("llava_onevision"), *QUICK, "--profile", "--frames", 1, "--plot", path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_is_one_line(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, err = bench(*LLAVA, *QUICK, "--tower", "--plot", tmp_path / "x.png")
    assert (code, out) == (1, "")
    assert "pip install 'illava[plot]'" in err


def test_rivals(report):
    tower, decoder = report(*LLAVA, *QUICK, "--rivals")["rivals"]
    assert list(tower["methods"]) == ["plain", "free", "illava", "fastv", "tome"]
    assert list(decoder["methods"]) == ["plain", "illava", "illava, last query", "fastv", "tome"]
    assert tower["tokens_in"] == tower["methods"]["plain"]["tokens_out"] == 729
    for layer in (tower, decoder):
        kept = {name: m["tokens_out"] for name, m in layer["methods"].items() if name != "plain"}
        assert set(kept.values()) == {layer["tokens_in"] - layer["removed"]}
        assert layer["methods"]["illava"]["seconds_beyond_layer"].keys() == SPREAD


def test_scores_need_memory_that_grows_with_the_tokens(report):
    """At the length of 32 frames; toy widths, four heads."""
    _, decoder = report(*LLAVA, *QUICK, "--rivals", "--tokens", 3136)["rivals"]
    assert decoder["visual_tokens"] == 3136
    extra = decoder["scoring_bytes"]
    assert extra["full map"] > 4 * 3170**2 * 4
    assert extra["illava"] < extra["full map"] / 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "--rivals"], "give one of them"),
        (["--tiles", "0"], "--tiles: must be 1 or more"),
        (["--tiles", "1000"], "this model makes"),
        (["--image", "x.png", "--frames", "2"], "give one kind"),
        (["--image", "x.png", "--batch-size", "2"], "--batch-size needs synthetic media"),
        (["--batch-size", "2", "--profile"], "leave it out"),
        (["--rivals", "--tiles", "2"], "takes no media"),
        (["--plot", "x.png"], "give one of them"),
        (["--profile", "--plot", "x.png", "--save", "x.png"], "given for two results"),
        (["--tokens", "9"], "give both"),
        (["--preset", "papr"], "did you mean 'paper'"),
        (["--format", "xml"], "expected text or json"),
        (["--repeats", "0"], "--repeats"),
        (["--max-tokens", "3"], "No such option"),
    ],
)
def test_bad_flags_end_with_2(arguments, said, bench):
    code, out, err = bench(*LLAVA, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_missing_media_end_with_1(bench):
    code, _, err = bench(*LLAVA, "--image", "nowhere.png")
    assert code == 1
    assert "nowhere.png: no such file" in err


def test_a_model_for_images_only(bench, report, small):
    """Without a preset's name its own is measured, and a video is refused in one line."""
    (result,) = report("-m", "random:llava-next-toy", *QUICK)["results"]
    assert list(result["variants"]) == ["transformers", "llava-next", "off"]
    assert result["variants"]["llava-next"]["tokens"]["visual"]["vision_kept"] == 256
    code, _, err = bench(*small("llava_next"), *QUICK, "--frames", 2)
    assert code == 2
    assert err.splitlines()[-1].startswith("illava: error: this model takes images only")


def test_rivals_are_for_llava(bench):
    code, _, err = bench(*QWEN, "--rivals")
    assert code == 2
    assert "LLaVA-OneVision" in err


def test_a_guide_is_not_benched(bench, guide_folders):
    guide = f"guide.model={guide_folders('clip-crop')}"
    code, _, err = bench(*LLAVA, "--tiles", 1, "--preset", "auto", "--method", "clip-crop", "--set", guide)
    assert code == 2
    assert "use illava compare" in err
