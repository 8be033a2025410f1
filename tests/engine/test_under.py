"""Several configurations on one loaded model, and what a trace says of the prompt."""

import pytest

from illava_cli.config import resolve
from illava_cli.errors import UsageError
from illava_cli.trace import VISUAL
from tests.conftest import clip, picture

MERGING = ("layout=faithful", "vision={layers: [1], r: 9}", "llm={layers: [2], keep: 0.5}")


def test_another_configuration_on_the_same_model(open_session, checkpoints):
    off = open_session("llava_onevision", "preset=off", "generation.max_tokens=2")
    config = resolve(
        checkpoints("llava_onevision"),
        settings=["preset=paper", *MERGING, "generation.max_tokens=2", "model.device=cpu"],
        environ={},
    )
    merging = off.under(config)
    image = picture(84, 84)
    before = off.ask("?", [image]).usage.visual
    assert merging.model is off.model
    assert merging.ask("?", [image]).usage.visual.llm_kept < before.llm_kept
    assert off.ask("?", [image]).usage.visual == before


def test_the_least_number_of_tokens_is_that_of_the_new_preset(open_session, checkpoints):
    session = open_session("llava_onevision", "preset=off")
    auto = resolve(checkpoints("llava_onevision"), settings=["preset=auto", "model.device=cpu"], environ={})
    assert session.min_visual_tokens == 0
    assert session.under(auto).min_visual_tokens > 0


def test_a_schedule_that_does_not_fit_is_refused(open_session, checkpoints):
    session = open_session("llava_onevision", "preset=off")
    config = resolve(checkpoints("llava_onevision"), settings=["preset=paper"], environ={})
    with pytest.raises(UsageError, match=r"vision\.r"):
        session.under(config)


def test_the_trace_tells_visual_tokens_and_segments(open_session):
    session = open_session("llava_onevision", "preset=off", *MERGING, "generation.max_tokens=1")
    answer = session.ask("?", videos=[clip(3, 84, 84)], trace=True)
    assert answer.trace["segments"] == [3]
    assert answer.trace["kinds"].shape == (1, answer.usage.prompt_tokens)
    assert (answer.trace["kinds"] == VISUAL).sum() == answer.usage.visual.llm_in


@pytest.mark.parametrize(
    "wrong", ["method=bipartit", "method=bipartit preset=auto", "preset=off input.method=fastv"]
)
def test_a_wrong_method_is_refused_and_not_passed_over(wrong, open_session):
    with pytest.raises(UsageError, match=r"did you mean 'bipartite'|is for llm only"):
        open_session("llava_onevision", *wrong.split())
