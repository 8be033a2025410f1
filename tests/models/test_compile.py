"""`--compile` changes the speed and nothing else."""

import pytest
import torch

from tests.conftest import clip, picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32

DEVICES = [pytest.param("cpu", marks=pytest.mark.needs("g++")), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module", autouse=True)
def own_kernels(tmp_path_factory):
    """What another release of torch, or a process that was ended, left in the user's cache can crash it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.mark.long
@pytest.mark.usefixtures("exact_float32")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "name",
    [
        *(
            "llava faithful, original",
            "qwen2.5, paper",
            "qwen3, early",
            "qwen3.5, paper",
            "internvl, original",
        ),
        # half a minute each; the decoder of the first, and its tower but for windows, is qwen2.5's
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen, paper", "gemma4, paper")),
    ],
)
def test_compiled_equals_eager(name, device, open_session):
    family, settings = SCHEDULES[name]
    settings = [*settings, f"model.device={device}", "model.dtype=float32"]
    media = {"images": [picture(200, 150, 2)], "videos": [clip(3, 60, 60)]}
    eager = open_session(family, *settings).ask("What?", **media, logits=True)
    session = open_session(family, *settings, "model.compile=true")
    compiled = session.ask("What?", **media, logits=True)
    torch.testing.assert_close(compiled.logits, eager.logits, **FLOAT32)
    assert compiled.token_ids == eager.token_ids
    assert compiled.usage == eager.usage
    # a trace that watches every layer runs the tower as it is written
    assert session.ask("What?", **media, trace="attention").usage == eager.usage
