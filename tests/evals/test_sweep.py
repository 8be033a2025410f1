"""The walk over schedules: which there are, what they set, and which of them are worth their tokens."""

import pytest
import yaml

from illava_cli.config import Reduction, resolve
from illava_cli.errors import UsageError
from illava_cli.evals.sweep import Grid, Point, frontier, points, read_layers, read_share
from illava_cli.models.planning import plan


def test_the_default_walk(open_session):
    family = open_session("llava_onevision", "preset=off").family  # 7 and 6 layers
    found = points(Grid(), family, Reduction())
    assert len(found) == len({p.name for p in found}) == 4 * 3 - 1
    assert {p.vision_layers for p in found} == {(), (1, 2, 3, 4)}
    assert {p.llm_layers for p in found} == {(), (2,)}
    assert found[-1].name == "tower 0.33 at 1-4, LLM 0.5 at 2"


def test_a_grid_for_one_stage_leaves_the_other_alone(open_session):
    family = open_session("llava_onevision", "preset=off").family
    found = points(Grid(vision_keep=[0.5, 1.0], vision_layers=[(1, 2), (2, 4)]), family, Reduction())
    assert [p.name for p in found] == ["tower 0.5 at 1,2", "tower 0.5 at 2,4"]
    found = points(Grid(llm_layers=[(1,), (2, 3)]), family, Reduction())
    assert [p.name for p in found] == [
        "LLM 0.7 at 1", "LLM 0.7 at 2,3", "LLM 0.5 at 1", "LLM 0.5 at 2,3"
    ]  # fmt: skip
    found = points(Grid(vision_keep=[1 / 3], llm_keep=[0.7]), family, Reduction())
    assert [p.name for p in found] == ["tower 0.33 at 1-4, LLM 0.7 at 2"]


@pytest.mark.parametrize(
    ("image", "video", "llm", "name"),
    [
        ([2, 3], [1], [4], "tower 0.5 at 2,3, LLM 0.7 at 4"),
        ([5, 6, 7, 8], [1], [8], "tower 0.5 at 1, LLM 0.7 at 2"),  # not as deep: the other medium's layers
        ([5, 6, 7, 8], [9], [8], "tower 0.5 at 1-4, LLM 0.7 at 2"),  # nor there: such as lie as deep
    ],
)
def test_layers_are_those_of_the_preset(image, video, llm, name, open_session):
    family = open_session("llava_onevision", "preset=off").family
    vision = {"image": {"layers": image}, "video": {"layers": video}}
    base = Reduction(vision=vision, llm={"layers": llm})
    assert [p.name for p in points(Grid(vision_keep=[0.5], llm_keep=[0.7]), family, base)] == [name]


@pytest.mark.parametrize(("layout", "kept"), [("faithful", 18), ("grid", 16)])
def test_a_tower_with_tiles_keeps_the_share(layout, kept, open_session, checkpoints):
    session = open_session("llava_onevision", "preset=off")
    point = Point(0.5, (1, 2, 4), 0.25, (2, 3))
    settings = [f"layout={layout}", *point.settings(session.family, layout)]
    config = resolve(checkpoints("llava_onevision"), settings=["preset=off", *settings], environ={})
    reduction = session.under(config).reduction
    assert 36 - sum(reduction.vision.r) == kept
    assert max(reduction.vision.r) - min(reduction.vision.r) <= 1
    assert reduction.vision.layers == [1, 2, 4]
    assert (reduction.llm.layers, reduction.llm.keep) == ([2, 3], 0.5)  # half of a half


def test_a_tower_with_groups_drops_a_share_at_each_layer(open_session, checkpoints):
    session = open_session("qwen2_vl", "preset=off")
    settings = Point(0.25, (1, 3), 1.0, ()).settings(session.family, "faithful")
    config = resolve(checkpoints("qwen2_vl"), settings=["preset=qwen2-vl", *settings], environ={})
    reduction = session.under(config).reduction
    assert (reduction.vision.keep, reduction.vision.drop) == (pytest.approx(0.5), None)
    assert reduction.llm is None


@pytest.mark.parametrize("keep", [0.9, 2 / 3, 1 / 2, 1 / 3, 0.1])
def test_groups_that_are_kept_are_rounded_over_all_layers(keep, open_session):
    """Also of few groups as many stay as the share says, which a floor at each layer would miss."""
    family = open_session("qwen2_vl", "preset=off").family
    text = Point(keep, (1, 2, 3, 4), 1.0, ()).stages(family, "faithful")["vision"]
    reduction = Reduction(vision=yaml.safe_load(text), layout="faithful")
    schedule = plan(reduction, family.schedule_shape, "image")
    for groups in (1, 4, 7, 36, 1000):
        budget = schedule.tower.of(groups)
        left = groups - sum(budget.values())
        assert left == 1 or abs(left - groups * keep) < 0.5 + 1e-9
        assert all(removed >= 0 for removed in budget.values())


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("1", 1.0), ("253/361", 253 / 361)])
def test_shares(text, value):
    assert read_share(text, "--llm-keep") == value


@pytest.mark.parametrize("text", ["0", "1.5", "half", "1/0", "nan", "-0.5"])
def test_no_share(text):
    with pytest.raises(UsageError, match=r"--llm-keep .*above 0"):
        read_share(text, "--llm-keep")


@pytest.mark.parametrize(("text", "layers"), [("3", (3,)), ("2,3,5", (2, 3, 5)), ("2-4,7", (2, 3, 4, 7))])
def test_layers(text, layers):
    assert read_layers(text, "--vision-layers") == layers


@pytest.mark.parametrize("text", ["", "x", "1,,2", "4-2", "1,1", "2-3,3", "-1"])
def test_no_layers(text):
    with pytest.raises(UsageError, match="expected layers such as"):
        read_layers(text, "--vision-layers")


def figures(accuracy, tokens, agreement=None):
    wrapped = {
        name: None if v is None else {"value": v}
        for name, v in (("accuracy", accuracy), ("agreement", agreement))
    }
    return {"answered": 5, "visual_tokens": {"llm_kept": tokens}, "seconds": 1.0, **wrapped}


WALKED = {name: Point(0.5, (1,), 1.0, ()) for name in ("good", "bad", "few")}


def test_frontier():
    variants = {
        "off": figures(0.9, 144),
        "blind": figures(0.2, 0),
        "good": figures(0.9, 72),
        "bad": figures(0.6, 72),
        "few": figures(0.7, 36),
    }
    found = frontier({"all": {"variants": variants}}, WALKED, {"none": "too many"})
    assert {p["variant"]: p["best"] for p in found["points"]} == {
        "off": False, "good": True, "bad": False, "few": True
    }  # fmt: skip
    assert found["quality"] == "accuracy"
    assert found["skipped"] == [{"variant": "none", "why": "too many"}]


def test_without_answers_the_frontier_is_of_agreement():
    variants = {"off": figures(None, 144), "good": figures(None, 72, 0.8)}
    del variants["off"]["agreement"]
    found = frontier({"all": {"variants": variants}}, WALKED, {})
    assert [p["quality"] for p in found["points"]] == [1.0, 0.8]
    assert found["quality"] == "agreement"
