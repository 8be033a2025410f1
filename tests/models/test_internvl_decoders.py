"""InternVL3.5: the tower of InternVL3 before a decoder of Qwen3, dense or with experts."""

import pytest
import torch

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from tests.builders import write_internvl
from tests.conftest import picture
from tests.stock import Stock
from tests.tolerances import FLOAT32

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
DECODERS = {"qwen3": {}, "qwen3_moe": EXPERTS}
MERGING = ("layout=faithful", "vision={layers: [1, 3], drop: 0.2}", "llm={layers: [2, 4], keep: 0.7}")


@pytest.mark.parametrize("decoder", DECODERS)
def test_it_is_the_unmodified_model_and_merges(decoder, tmp_path):
    text = {"model_type": decoder, "head_dim": 16, **DECODERS[decoder]}
    folder = write_internvl(tmp_path / "checkpoint", text_config=text)
    settings = ["model.device=cpu", "preset=off", "generation.max_tokens=4"]
    session = load(config=resolve(str(folder), settings=settings, environ={}))
    images = [picture(200, 150)]
    answer = session.ask("What?", images, logits=True)
    stock = Stock(folder)
    text = stock.chat([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    logits, tokens = stock.answer(text, images, [], tokens=4)
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]
    merging = session.under(resolve(str(folder), settings=[*settings, *MERGING], environ={}))
    visual = merging.ask("What?", images).usage.visual
    assert visual.patches > visual.vision_kept > visual.llm_in > visual.llm_kept
