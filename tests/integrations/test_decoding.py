"""A task's generation options, as the harness's YAML files write them."""

import pytest

from illava_cli.errors import UsageError
from illava_cli.integrations.lmms.decoding import generation_settings


def settings(**options):
    warnings: list[str] = []
    return generation_settings(options, warnings.append), warnings


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"stop": []}),
        ({"max_new_tokens": 16, "until": "ASSISTANT:"}, {"max_tokens": 16, "stop": ["ASSISTANT:"]}),
        ({"until": ["</s>", ""]}, {"stop": ["</s>"]}),
        ({"until": None}, {"stop": []}),
        # the harness's own filler is no stop of the task's; beside others it is
        ({"until": ["\n\n"]}, {"stop": []}),
        ({"until": ["\n\n", "Q:"]}, {"stop": ["\n\n", "Q:"]}),
        # greedy, in the many ways in which tasks say it
        ({"temperature": 0, "top_p": 0, "do_sample": False, "num_beams": 1}, {"stop": [], "temperature": 0}),
        ({"temperature": 0.2, "do_sample": False, "top_p": 1.0}, {"stop": [], "temperature": 0}),
        ({"temperature": 0, "do_sample": True}, {"stop": [], "temperature": 0}),
        ({"temperature": 1.0, "top_k": 1}, {"stop": [], "temperature": 0}),
        ({"repetition_penalty": 1.2}, {"stop": [], "repetition_penalty": 1.2}),
        # sampled
        ({"do_sample": True}, {"stop": [], "temperature": 1.0}),
        (
            {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "seed": 3},
            {"stop": [], "temperature": 0.7, "top_p": 0.9, "top_k": 50, "seed": 3},
        ),
    ],
)
def test_options_become_settings(options, expected):
    assert settings(**options) == (expected, [])


def test_an_unknown_option_is_named():
    assert settings(watermark=True)[1] == [
        "the task's option watermark=True is not known here and has no effect"
    ]


def test_options_of_the_original_code_are_passed_over():
    assert settings(image_aspect_ratio="pad", use_cache=True) == ({"stop": []}, [])


@pytest.mark.parametrize("options", [{"num_beams": 4}, {"length_penalty": 1.2}, {"no_repeat_ngram_size": 3}])
def test_another_decoding_is_refused_not_replaced(options):
    with pytest.raises(UsageError, match="--gen_kwargs"):
        settings(**options)
