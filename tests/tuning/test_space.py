"""The schedules of a search: what a share becomes in each stage, and that models can run them."""

import random
from dataclasses import replace

import pytest

from illava_cli.config import resolve
from illava_cli.errors import UsageError
from illava_cli.models.planning import plan
from illava_cli.tuning.preset_file import preset_text
from illava_cli.tuning.space import Genes, draw, express, layout_of, neighbour, shipped

PLAIN = Genes(0.25, "both", depth=0.3, span=2, llm_depth=0.3, method="bipartite", llm_method="illava")


@pytest.fixture
def family(open_session):
    return open_session("llava_onevision", "preset=off").family  # 36 tokens a tile, 7 and 6 layers


def test_a_share_is_spent_in_two_stages_as_the_paper_does(family):
    stages = express(PLAIN, "image", family).stages
    tower, decoder = stages["vision"]["image"], stages["llm"]["image"]
    assert sum(tower["r"]) == 36 - round(36 * 0.25 ** (2 / 3))
    assert decoder["keep"] == pytest.approx(0.25 ** (1 / 3))
    assert (tower["method"], decoder["method"]) == ("bipartite", "illava")
    assert set(stages) == {"vision", "llm"}


@pytest.mark.parametrize(
    ("split", "used"),
    [("tower", {"vision"}), ("llm", {"llm"}), ("input", {"input"}), ("tower and input", {"vision", "input"})],
)
def test_a_split_uses_its_stages(split, used, family):
    assert set(express(replace(PLAIN, split=split), "image", family).stages) == used


def test_frames_that_leave_are_part_of_the_share(family):
    genes = replace(PLAIN, split="input", frames=0.5, clip="fastvid")
    stages = express(genes, "video", family).stages
    assert stages["frames"]["keep"] == 0.5
    assert stages["input"] == {"video": {"method": "fastvid", "keep": 0.5}}


@pytest.mark.parametrize(
    ("stage", "name"), [({"tau": 4}, "tau 4 bip"), ({"tau": 0, "every": 2}, "tau 0 every 2 bip")]
)
def test_patches_that_neighbours_predict(stage, name, family):
    found = express(replace(PLAIN, pixels=stage), "image", family)
    assert found.stages["pixels"] == {"image": stage}
    assert found.name.startswith(name)


@pytest.mark.parametrize(("frames", "entry"), [(1.0, 0.5), (0.5, 0.5), (0.25, 0.8)])
def test_patches_of_a_clip_that_leave_are_part_of_the_share(frames, entry, family):
    genes = replace(PLAIN, keep=0.2, split="input", frames=frames, clip="fastvid")
    pixels = {"tau": 8, "every": 2, "keep": 0.4}
    found = express(replace(genes, pixels=pixels), "video", family)
    assert found.stages["pixels"] == {"video": pixels}
    assert "patches 0.4" in found.name
    assert found.stages["frames"]["still"] == 3
    assert found.stages["input"] == {"video": {"method": "fastvid", "keep": entry}}


@pytest.mark.parametrize("model", ["llava_onevision", "qwen2_vl"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_most_of_what_is_drawn_runs(model, kind, open_session, checkpoints):
    """As settings and as a preset file alike; what a model refuses it refuses with a reason."""
    session = open_session(model, "preset=off")
    rng, ran = random.Random(0), 0
    for _ in range(30):
        candidate = express(draw(rng, kind), kind, session.family)
        settings = candidate.settings(layout_of(session.family))
        config = resolve(checkpoints(model), settings=settings, environ={})
        try:
            under = session.under(config)
        except UsageError:
            continue
        ran += 1
        schedule = plan(under.reduction, session.family.schedule_shape, kind)
        assert schedule.reduces
    assert ran > 20


def test_the_preset_file_is_the_schedule(open_session, checkpoints, tmp_path):
    session = open_session("llava_onevision", "preset=off")
    rng = random.Random(1)
    image, video = (express(draw(rng, kind), kind, session.family) for kind in ("image", "video"))
    path = tmp_path / "found.yaml"
    path.write_text(preset_text(session.family, {"image": image, "video": video}, "Found.", ["one", "two"]))
    assert path.read_text().startswith("# one\n# two\ndescription: Found.\n")
    config = resolve(checkpoints("llava_onevision"), settings=[f"preset={path}"], environ={})
    whole = session.under(config).schedules
    for candidate in (image, video):
        settings = candidate.settings(layout_of(session.family))
        alone = session.under(resolve(checkpoints("llava_onevision"), settings=settings, environ={}))
        assert whole[candidate.kind] == alone.schedules[candidate.kind]


def test_a_neighbour_differs_in_one_thing():
    rng = random.Random(2)
    for _ in range(50):
        genes = draw(rng, "video")
        other = neighbour(rng, genes, "video")
        names = Genes.__dataclass_fields__
        assert sum(getattr(genes, name) != getattr(other, name) for name in names) == 1


def test_shipped_presets_that_fit_are_among_them(family):
    names = {candidate.name for candidate in shipped(family, "image")}
    assert {"as auto", "as best", "as documents"} <= names
    assert "as off" not in names
    assert "as qwen2-vl" not in names


@pytest.mark.parametrize(
    ("split", "gene"),
    [
        ("input", "method"),
        ("tower", "method"),
        ("both", "method"),
        ("llm", "llm_method"),
        ("both", "llm_method"),
    ],
)
def test_another_method_has_another_name(split, gene, family):
    one, other = (
        express(replace(PLAIN, split=split, **{gene: method}), "image", family)
        for method in ("kmeans", "assign")
    )
    assert one.name != other.name
    assert one.stages != other.stages


def test_a_model_that_auto_does_not_know_is_searched_all_the_same(open_session):
    session = open_session("qwen2_vl", "preset=off", "model.schedule=qwen2_vl_mine")
    assert layout_of(session.family) == ["variant=paper", "layout=faithful"]
