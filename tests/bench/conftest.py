"""Small checkpoints with a merging and an unmerged session each, beside their unmodified twins."""

import pytest
import yaml

from illava_cli.bench.lab import Lab
from illava_cli.config import resolve
from illava_cli.engine.opening import load

# schedules that fit 36 tokens a tile and a handful of layers
SCHEDULES = {
    "llava_next": {
        "layout": "grid",
        "vision": {"layers": [1, 3], "r": [11, 9]},
        "llm": {"layers": [2], "keep": 0.7, "queries": "last"},
    },
    "llava_onevision": {
        "layout": "grid",
        "vision": {"layers": [1, 3], "r": [11, 9]},
        "llm": {"layers": [2], "keep": 0.7, "queries": "visual-literal"},
    },
    "qwen2_vl": {
        "layout": "faithful",
        "vision": {"layers": [1, 3], "drop": 0.2},
        "llm": {"layers": [2], "keep": 0.7, "queries": "last"},
    },
    "qwen2_5_vl": {
        "layout": "faithful",
        "vision": {"layers": [1, 4], "drop": 0.2},
        "llm": {"layers": [2], "keep": 0.7, "queries": "last"},
    },
}
SCHEDULES["gemma4"] = {"layout": "faithful", "vision": {"layers": [1, 3], "drop": 0.2}}
SCHEDULES |= dict.fromkeys(
    ("internvl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), SCHEDULES["qwen2_vl"]
)


@pytest.fixture(scope="session")
def schedule(tmp_path_factory):
    """A preset file for a family's small checkpoint."""

    def write(family: str) -> str:
        path = tmp_path_factory.mktemp("presets") / "merging.yaml"
        path.write_text(yaml.safe_dump(SCHEDULES[family]))
        return str(path)

    return write


@pytest.fixture(scope="session")
def lab(checkpoints, schedule):
    labs = {}

    def get(family: str) -> Lab:
        if family not in labs:
            presets = {"merging": schedule(family), "off": "off"}
            configs = {
                name: resolve(
                    checkpoints(family), settings=[f"preset={preset}", "model.device=cpu"], environ={}
                )
                for name, preset in presets.items()
            }
            labs[family] = Lab(load(config=configs["merging"]), configs)
        return labs[family]

    return get
