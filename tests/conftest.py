"""Shared fixtures: small checkpoints, and pictures and frames that differ everywhere."""

import tests.environment  # first: what it clears is read when libraries are imported

# isort: split
import numpy as np
import pytest
import torch
from PIL import Image

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from illava_cli.engine.session import Session
from illava_cli.models import family_class
from illava_cli.reduction import METHODS
from tests.builders import WRITERS
from tests.guides import write_clip, write_clipseg
from tests.needs import pytest_runtest_setup, pytest_terminal_summary  # noqa: F401 - hooks
from tests.reference import doubled, gemma4

LIMITS = {"slow": 3600, "network": 3600}  # seconds: 20 kills and restarts; 6 GB from the hub
IMAGES_ONLY = tuple(family for family in WRITERS if "video" not in family_class(family, "tests").markers)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folder of a small random checkpoint, by family."""
    folders = {}

    def get(family: str) -> str:
        if family not in folders:
            folder = tmp_path_factory.mktemp(family) / "checkpoint"
            WRITERS[family](folder)
            folders[family] = str(folder)
        return folders[family]

    return get


@pytest.fixture(scope="session")
def open_session(checkpoints):
    """A session on a small checkpoint; sessions of equal settings are shared."""
    sessions = {}

    def get(family: str, *settings: str, fresh: bool = False) -> Session:
        key = (family, settings)
        if key not in sessions or fresh:
            config = resolve(checkpoints(family), settings=["model.device=cpu", *settings], environ={})
            session = load(config=config)
            if fresh:
                return session
            sessions[key] = session
        return sessions[key]

    return get


@pytest.fixture(scope="session")
def guide_folders(tmp_path_factory):
    """Folder of a small random checkpoint for a guided method."""
    folders = {}

    def get(method: str) -> str:
        kind = METHODS[method].guided.checkpoint
        if kind not in folders:
            write = {"clip": write_clip, "clipseg": write_clipseg}[kind]
            folders[kind] = str(write(tmp_path_factory.mktemp(kind) / "checkpoint"))
        return folders[kind]

    return get


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture: coloured blobs, so that patches differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def clip(frames: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 that all differ."""
    return np.stack([np.asarray(picture(width, height, seed * 100 + i)) for i in range(frames)])


def pytest_collection_modifyitems(items):
    """What takes long begins first; what takes minutes has a time limit of its own, the others' is in
    pyproject.toml.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if not item.get_closest_marker("timeout"):
            for name in LIMITS.keys() & {mark.name for mark in item.iter_markers()}:
                item.add_marker(pytest.mark.timeout(LIMITS[name]))


@pytest.fixture(scope="session", autouse=True)
def _plain_terminal():
    with tests.environment.as_in_a_plain_terminal():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests run side by side: more threads would spin, waiting for each other, and toys need but one."""
    torch.set_num_threads(1)


@pytest.fixture
def exact_in_float64(monkeypatch):
    """What `transformers` computes in float32 of any model is in float64 where the model is."""
    doubled.exact(monkeypatch)
    gemma4.exact(monkeypatch)


@pytest.fixture
def exact_float32(monkeypatch):
    """Convolutions in float32 as on a CPU: cuDNN rounds their inputs to TF32, 10 bits, by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
