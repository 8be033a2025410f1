"""The tap between a model's attention and its back end."""

import pytest
import torch
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipAttention

from illava_cli.config import ModelOptions
from illava_cli.models.attention import PLAIN, install_tap
from illava_cli.models.backends import BACKENDS


@pytest.fixture
def attention():
    config = SiglipVisionConfig(hidden_size=8, num_attention_heads=2)
    config._attn_implementation = "sdpa"
    return SiglipAttention(config).eval()


def test_every_back_end_that_can_be_chosen_is_described():
    names = ModelOptions.model_fields["attn"].annotation.__args__
    assert set(names) - {"auto"} == BACKENDS.keys()


def test_the_back_end_sees_the_module_under_its_own_name(attention):
    """FlashAttention looks itself up in the config of the module that calls it."""
    x = torch.randn(1, 3, 8)
    expected = attention(x)[0]
    install_tap(attention)
    run, seen = attention.tap.run, []

    def backend(module, *arguments, **options):
        assert attention.config._attn_implementation == PLAIN  # nothing is swapped meanwhile
        linear = next(layer for layer in module.modules() if isinstance(layer, torch.nn.Linear))
        seen.append((module.config._attn_implementation, module.is_causal, linear.weight.dtype))
        return run(module, *arguments, **options)

    attention.tap.run = backend
    torch.testing.assert_close(attention(x)[0], expected, rtol=0, atol=0)
    assert seen == [("sdpa", False, torch.float32)]
    assert set(dict(attention.named_modules())) == {"", "k_proj", "v_proj", "q_proj", "out_proj"}
