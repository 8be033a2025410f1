"""The shipped experiments: each can be run as it stands, and what is none is refused."""

import pytest

from illava_cli import load
from illava_cli.config import load_preset, resolve, shipped
from illava_cli.engine.shares import share_settings
from illava_cli.errors import UsageError
from illava_cli.evals.plan import load_plan
from illava_cli.evals.sweep import read_share
from illava_cli.evals.variants import variants
from illava_cli.reduction import METHODS

PLANS = list(shipped("experiments"))
NAMED = {"llava_onevision": "llava-onevision-7b", "llava_onevision_tiny": "tiny"}


def plan_variants(plan, family):
    def with_settings(more):
        return resolve(NAMED[family], settings=more, environ={})

    return variants(with_settings, [], load_plan(plan).named_variants(family, plan))[1:]


@pytest.fixture(scope="module")
def tiny():
    return load("tiny", preset="off", device="cpu", dtype="float32")


@pytest.mark.parametrize("name", PLANS)
def test_each_runs_on_the_embedded_model(name, tiny, guide_folders):
    plan = load_plan(name)
    assert plan.description
    if plan.variants:
        found = plan_variants(name, "llava_onevision_tiny")
        assert len(found) >= 3
        for variant in found:
            tiny.under(variant.config.model_copy(update={"model": tiny.config.model}))
    else:
        base = load_preset(plan.preset).by_family["llava_onevision_tiny"]
        for method in plan.methods:
            for keep in plan.keep:
                more = share_settings(tiny.family, base, method, read_share(keep, "keep"))
                if METHODS[method].guided:
                    more.append(f"guide.model={guide_folders(method)}")
                config = resolve("tiny", settings=[f"preset={plan.preset}", *more], environ={})
                tiny.under(config.model_copy(update={"model": tiny.config.model}))


@pytest.mark.parametrize("name", [name for name in PLANS if load_plan(name).variants])
def test_the_papers_own_numbers(name):
    """729 tokens go into the tower of the real model; what the name of a variant says comes out of it."""
    for variant in plan_variants(name, "llava_onevision"):
        stage = variant.config.reduction_for("llava_onevision").vision
        if name == "table-5":
            assert sum(stage.r) == 729 - int(variant.name)
        elif name == "table-6":
            assert sum(stage.r) == 4 * 92


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load_plan("table-55"), "did you mean 'table-5'"),
        (lambda: load_plan("table-5").named_variants("qwen2_vl", "table-5"), "has no variants for qwen2_vl"),
        (lambda: load_plan("figure-5").named_variants("qwen2_vl", "figure-5"), "use illava compare"),
    ],
)
def test_refused_in_one_line(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("variants: {llava_onevision: {half: 'preset=paper llm.keep=0.5'}}")
    assert load_plan(str(path)).named_variants("llava_onevision", "mine") == [
        "half: preset=paper llm.keep=0.5"
    ]
    path.write_text("variant: {}")
    with pytest.raises(UsageError, match=r"unknown key 'variant'.*did you mean 'variants'"):
        load_plan(str(path))
