"""`illava compare`: methods at equal shares, more models than one, and what it refuses."""

import importlib.util
import json
from types import SimpleNamespace

import pytest

from illava_cli.cli.app import main
from illava_cli.config import Reduction, resolve
from illava_cli.engine.reducing import reducing
from illava_cli.engine.shares import placed, share_settings
from illava_cli.models.planning import plan, stages_of
from illava_cli.models.schedule import ScheduleShape
from tests.stages import storm, under

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture
def compare(checkpoints, task_file, capsys):
    """Runs the command on the small questions: exit code, report (or None), stderr."""

    def run(*arguments, models=("llava_onevision",)):
        given = [word for family in models for word in ("-m", checkpoints(family))]
        common = ["--device", "cpu", "--max-tokens", "2", "--tasks", str(task_file), "--format", "json"]
        code = main(["compare", *given, *common, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def test_methods_keep_about_what_was_asked(compare, tmp_path):
    page, picture = tmp_path / "page.md", tmp_path / "picture.png"
    arguments = [
        "--method",
        "illava",
        "--method",
        "fastv",
        "--method",
        "prumerge",
        "--keep",
        "1/2",
        "--keep",
        "0.5",
    ]
    files = ["--markdown", page, *(["--plot", picture] if HAS_MATPLOTLIB else [])]
    code, report, err = compare(*arguments, "--keep", "0.3", *files)
    assert code == 0
    rows = {(row["method"], row["budget"]): row for row in report["rows"]}
    assert set(rows) == {
        ("off", None),
        *((m, k) for m in ("illava", "fastv", "prumerge") for k in (0.5, 0.3)),
    }
    assert rows["off", None]["kept"] == 1
    for (_, budget), row in rows.items():
        if budget is not None:
            assert row["kept"] == pytest.approx(budget, abs=0.08)
            assert row["agreement"] is not None
    vision = {method: rows[method, 0.5]["visual_tokens"] for method in ("illava", "fastv", "prumerge")}
    assert vision["illava"]["vision_kept"] < vision["illava"]["patches"]
    assert vision["fastv"]["vision_kept"] == vision["fastv"]["patches"] == vision["prumerge"]["vision_kept"]
    assert vision["prumerge"]["llm_in"] == vision["prumerge"]["llm_kept"]
    assert "| model | method | asked | kept |" in page.read_text()
    model = report["models"][0]
    name = model["model"]["id"]
    assert list(model["tasks"]) == ["mine", "odd"]
    assert (
        f"| accuracy %, {name} | mine | odd |\n| --- | --- | --- |\n| off | 0.0 | 0.0 |" in page.read_text()
    )
    assert "fastv" in err
    assert not HAS_MATPLOTLIB or picture.read_bytes().startswith(b"\x89PNG")


def test_models_one_after_the_other_and_going_on(compare, tmp_path):
    both = {"models": ("llava_onevision", "qwen2_vl")}
    arguments = ["--method", "random", "--answers", tmp_path / "answers"]
    code, report, err = compare(*arguments, **both)
    assert code == 0, err
    assert [row["variant"] for row in report["rows"]] == ["off", "random 1/3"] * 2
    assert [model["model"]["family"] for model in report["models"]] == ["llava_onevision", "qwen2_vl"]
    files = sorted((tmp_path / "answers").iterdir())
    before = [file.read_text() for file in files]
    again = compare(*arguments, **both)[1]
    assert [file.read_text() for file in files] == before
    assert [row["seconds"] for row in again["rows"]] == [row["seconds"] for row in report["rows"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "bipartit"], "did you mean 'bipartite'"),
        (["--keep", "2"], "expected a share"),
        (["--preset", "papr"], "did you mean 'paper'"),
        (["--set", "generation.temperature=1"], "greedy answers are compared"),
        (["-m", "tinyy"], "did you mean 'tiny'"),
    ],
)
def test_refused_in_one_line(compare, arguments, said):
    code, report, err = compare(*arguments)
    assert (code, report) == (2, None)
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_model_that_does_not_load_loses_nothing(compare, tmp_path):
    (tmp_path / "broken").mkdir()
    saved = tmp_path / "report.json"
    code, report, err = compare("--method", "random", "-m", tmp_path / "broken", "--save", saved)
    assert code == 2
    assert report == json.loads(saved.read_text())
    assert [row["variant"] for row in report["rows"]] == ["off", "random 1/3"]
    assert "config.json" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("batch", "questions"), [(2, [3]), (3, [6]), (4, [6, 3])], ids=["first", "between", "second"]
)
def test_ctrl_c_shows_what_was_answered(batch, questions, compare, stop_in, tmp_path):
    """Of six questions in two batches, asked of two models."""
    stop_in(batch)
    both = {"models": ("llava_onevision", "qwen2_vl")}
    saved = tmp_path / "report.json"
    code, report, err = compare("--method", "random", "--save", saved, **both)
    assert code == 130
    assert report == json.loads(saved.read_text())
    assert [model["all"]["questions"] for model in report["models"]] == questions
    assert [row["variant"] for row in report["rows"]] == ["off", "random 1/3"] * len(questions)
    assert ("stopped after 3 of 6 questions" in err) == (3 in questions)


def test_ctrl_c_with_nothing_to_show(compare, stop_in, tmp_path):
    stop_in(1)
    assert compare("--method", "random")[:2] == (130, None)


def test_layers_alone_may_be_overridden(compare):
    """Without the preset's budget they are no schedule; the shares give one."""
    code, report, err = compare(
        "--method", "illava", "--set", "vision.layers=[1, 2]", "--set", "llm.layers=[3]"
    )
    assert code == 0, err
    vision = report["models"][0]["variants"]["illava 1/3"]["reduction"]["vision"]
    assert vision["image"]["layers"] == vision["video"]["layers"] == [1, 2]


def test_failures_are_told(compare, task_file):
    (task_file.parent / "2.png").write_bytes(b"no picture")
    code, report, err = compare("--method", "random")
    assert code == 3
    assert report["rows"][1]["failed"] == 1
    assert "illava: mine:3: " in err


def test_a_budget_is_spent_where_the_method_has_a_meaning(open_session):
    family = open_session("llava_onevision", "preset=off").family
    base = Reduction(layout="faithful", vision={"layers": [1, 2]}, llm={"layers": [3]})
    assert share_settings(family, base, "fastv", 0.5)[1:] == ["vision=null", "llm={layers: [3], keep: 0.5}"]
    assert share_settings(family, base, "prumerge", 0.5)[1:] == [
        "input={keep: 0.5}",
        "vision=null",
        "llm=null",
    ]
    assert share_settings(family, base, "clip-crop", 0.5)[1:] == [
        "guide={keep: 0.5}",
        "vision=null",
        "llm=null",
    ]
    tower, decoder = share_settings(family, base, "kmeans", 1 / 8)[1:]
    assert tower == "vision={layers: [1, 2], r: [14, 13], drop: null, keep: null}"  # 36 -> 9, a quarter
    assert decoder == "llm={layers: [3], keep: 0.5}"


def test_a_video_merges_at_its_own_layers(open_session):
    family = open_session("llava_onevision", "preset=off").family
    stages = {"image": {"layers": [1, 2]}, "video": {"layers": [3]}}
    base = Reduction(layout="faithful", vision=stages, llm={"layers": [3]})
    tower, decoder = share_settings(family, base, "kmeans", 1 / 8)[1:]
    image = "{layers: [1, 2], r: [14, 13], drop: null, keep: null}"
    video = "{layers: [3], r: [27], drop: null, keep: null}"
    assert tower == f"vision={{image: {image}, video: {video}}}"
    assert decoder == "llm={layers: [3], keep: 0.5}"


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (["vision.method=random"], {"vision": "random", "llm": "illava"}),
        (["method=bipartite"], {"vision": "bipartite", "llm": "bipartite", None: "bipartite"}),
        (["preset=off", "vision={method: kmeans, layers: [1, 3], r: 9}"], {"vision": "kmeans"}),
        (["preset=off", "llm={method: fastv, layers: [2], keep: 0.5}"], {"llm": "fastv"}),
        (["preset=off", "input={method: prumerge, keep: 0.5}"], {"input": "prumerge"}),
        (["preset=off"], {"vision": "illava", "llm": "illava"}),
    ],
)
def test_a_share_leaves_each_stage_its_method(open_session, settings, kept):
    session = open_session("llava_onevision", "preset=off")
    schedule = ["vision={layers: [1, 3], r: [11, 9]}", "llm={layers: [2], keep: 0.5}", "layout=faithful"]
    own = settings if settings[0] == "preset=off" else ["preset=off", *schedule]
    config = resolve(settings=[*own, *(s for s in settings if s not in own)], environ={})
    reduction = reducing(session.family, config, None, 0.25, None).reduction_for("llava_onevision")
    merging = stages_of(reduction, "image")
    stages = {name: getattr(merging, name) for name in ("vision", "input", "llm")}
    found = {name: stage.method for name, stage in stages.items() if stage is not None}
    assert found | ({None: reduction.method} if reduction.method else {}) == kept


@pytest.mark.parametrize(
    "stages",
    [
        ("frames={method: runs, layers: [-1], keep: 0.5}", "pixels=null"),
        ("frames=null", "pixels={video: {every: 2, keep: 0.5}}"),
        ("frames={method: runs, layers: [-1], keep: 0.8}", "pixels={video: {every: 2, keep: 0.5}}"),
    ],
)
def test_a_share_of_a_clip_counts_what_did_not_enter(stages, open_session):
    session = open_session("llava_onevision", "preset=off")
    config = resolve(settings=["preset=turbo", "layout=faithful", *stages], environ={})
    for keep, input_keep in ((0.4, 0.8), (0.1, 0.2), (0.9, 1.0)):
        reduction = reducing(session.family, config, None, keep, None).reduction_for("llava_onevision")
        assert reduction.input.video.keep == pytest.approx(input_keep)
        assert reduction.input.video.method == "diversity-assign"
        assert reduction.vision.video is None


@pytest.mark.parametrize("merging", ["input={video: {method: diversity-assign, keep: 1}}", "input=null"])
def test_a_share_of_a_clip_is_what_is_left_of_it(merging, open_session):
    """Whichever stage spends it, what does not enter included."""
    session = open_session("llava_onevision", "preset=off")
    settings = ("preset=turbo", "pixels={video: {every: 2, keep: 0.5}}", merging)
    base = resolve(settings=[*settings], environ={}).reduction_for(session.family.schedule_key)
    staged = under(session, *settings, *share_settings(session.family, base, None, 0.25))
    visual = staged.ask("?", videos=[storm(8, 96, 64)]).usage.visual
    share = visual.llm_kept / (visual.unmerged - 1)
    assert share == pytest.approx(0.25, rel=0.2)  # tokens are whole in each frame


@pytest.mark.parametrize(
    ("depth", "named", "placed_at"),
    [(12, [], 4), (24, [], 8), (28, [], 8), (6, [], 4), (24, [12], 12), (24, [2], 8), (24, [8, 9], 8)],
)
def test_a_decoder_of_linear_attention_merges_where_tokens_can_be_ranked(depth, named, placed_at):
    """Every fourth layer has full attention: tokens may merge right after it."""
    linear = tuple(layer for layer in range(depth) if layer % 4 != 3)
    shape = ScheduleShape("Qwen3.5", "qwen3.5", 12, depth, None, rope_axes=3, linear=linear)
    family = SimpleNamespace(tower_layers=12, schedule_shape=shape)
    base = Reduction(layout="faithful", llm={"layers": named})
    assert placed(family, base)[1] == [placed_at]
    reduction = Reduction(layout="faithful", llm={"layers": [placed_at], "keep": 0.5})
    assert plan(reduction, shape, "image").decoder[0][0] == placed_at


@pytest.mark.parametrize(
    "family", ["gemma4", "internvl", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"]
)
def test_small_pictures_keep_what_was_asked(compare, family):
    """36 tokens a tile, 9 groups a picture, which preset auto would leave whole: to within a token."""
    code, report, err = compare("--method", "illava", "--method", "random", "--keep", "1/3", models=(family,))
    assert code == 0, err
    for row in report["rows"][1:]:
        assert row["kept"] == pytest.approx(1 / 3, abs=1 / 9)


def test_a_guide_chooses_at_equal_shares(compare, guide_folders):
    models = ("qwen2_vl",)
    given = ["--method", "clip-crop", "--keep", "1/2", "--set", f"guide.model={guide_folders('clip-crop')}"]
    code, report, err = compare(*given, models=models)
    assert code == 0, err
    (row,) = report["rows"][1:]
    assert row["kept"] == pytest.approx(0.5, abs=0.1)
    assert report["models"][0]["variants"]["clip-crop 1/2"]["reduction"]["guide"]["keep"] == 0.5


def test_a_plan_runs_without_the_guide_that_is_not_there(compare, monkeypatch, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("{methods: [random, clip-crop], keep: [0.5]}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = ["--plan", plan, "--set", "guide.model=no/where"]
    code, report, err = compare(*given)
    assert code == 0, err
    assert [row["variant"] for row in report["rows"]] == ["off", "random 0.5"]
    assert "left out: clip-crop 0.5 (cannot download no/where" in err
    code, report, err = compare(*given, "--method", "clip-crop")
    assert (code, report, len(err.splitlines())) == (1, None, 1)
