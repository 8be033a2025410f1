"""What is relied on of transformers' inner modules: a release that changes it fails here, by name."""

import ast
import inspect
from pathlib import Path

import pytest
import torch

from illava_cli.models import hf

PACKAGE = Path(hf.__file__).parents[1]


@pytest.mark.parametrize("name", hf.INNER)
def test_it_is_where_it_is_looked_for(name):
    assert getattr(hf, name) is not None


def test_nothing_else_is_taken_from_inside():
    """One room breaks with a new release, and no other."""
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = [
            n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)
        ]
        inner = [node.module for node in nodes if (node.module or "").startswith("transformers.")]
        assert path.name == "hf.py" or not inner, path


def test_what_is_not_listed_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'smart_resized'"):
        hf.smart_resized  # noqa: B018


def test_what_a_release_moved_is_named(monkeypatch):
    monkeypatch.setitem(hf.INNER, "smart_resize", "models.qwen2_vl.elsewhere")
    with pytest.raises(ImportError, match=r"transformers\.models\.qwen2_vl\.elsewhere has no smart_resize"):
        hf.smart_resize  # noqa: B018


ARGUMENTS = {
    "create_causal_mask": (hf.CACHE,),
    "get_anyres_image_grid_shape": ("image_size", "grid_pinpoints", "patch_size"),
    "get_optimal_tiled_canvas": (
        "original_image_size",
        "target_tile_size",
        "min_image_tiles",
        "max_image_tiles",
    ),
    "get_patch_output_size": ("image", "target_resolution", "input_data_format"),
    "get_vision_position_ids": ("grid_thw", "spatial_merge_size"),
    "select_best_resolution": ("original_size", "possible_resolutions"),
    "get_vision_interpolation_indices_and_weights": (
        "grid_thw",
        "num_grid_per_side",
        "mode",
        "align_corners",
        "spatial_merge_size",
    ),
    "smart_resize": ("height", "width", "factor", "min_pixels", "max_pixels"),
    "unpad_image": ("tensor", "original_size"),
    "video_smart_resize": ("num_frames", "temporal_factor", "factor", "min_pixels", "max_pixels"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name):
    assert set(ARGUMENTS[name]) <= set(inspect.signature(getattr(hf, name)).parameters)


def test_tiles():
    assert hf.select_best_resolution((100, 300), [[84, 84], [84, 252]]) == (84, 252)
    assert tuple(hf.get_anyres_image_grid_shape((100, 300), [[84, 84], [84, 252]], 84)) == (1, 3)
    cells = torch.arange(36).view(1, 6, 6)
    assert hf.unpad_image(cells, (50, 100)).tolist() == cells[:, 1:5].tolist()  # a sixth above and below


def test_sizes():
    assert hf.smart_resize(100, 150, factor=28, min_pixels=28 * 28, max_pixels=28 * 28 * 36) == (112, 140)


def test_patches_of_a_frame_stand_in_groups():
    places = hf.get_vision_position_ids(torch.tensor([[1, 2, 4]]), 2)
    assert places.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]


def test_attention_is_looked_up_by_name():
    assert callable(hf.ALL_ATTENTION_FUNCTIONS.get_interface("sdpa", None))


def test_weights_are_not_drawn_within():
    with hf.no_init_weights():
        layer = torch.nn.Linear(2, 2)
        before = layer.weight.clone()
        torch.nn.init.zeros_(layer.weight)
    assert torch.equal(layer.weight, before)
