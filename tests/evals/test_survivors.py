"""Where the survivors of a clip lie, where frames bring unlike numbers of tokens."""

import numpy as np
import pytest

from illava_cli.evals.survivors import survivors
from tests.conftest import clip
from tests.stages import COMMON, under


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "qwen3_vl", "internvl"])
def test_frames_that_did_not_enter_have_none(family, open_session):
    session = under(open_session(family, "preset=off"), *COMMON, "frames={still: 0}")
    frames = np.repeat(clip(3, 84, 84), [4, 2, 2], axis=0)
    answer = session.ask("?", videos=[frames], trace=True)
    found, usage = survivors(answer), answer.usage.visual
    each = usage.llm_kept // usage.frames_kept
    steps = [0, 2, 3] if usage.frames_in == 4 else [0, 4, 6]  # of Qwen's pairs
    assert usage.frames_kept == 3
    assert found["frames"] == [each if n in steps else 0 for n in range(usage.frames_in)]
    assert sum(found["quarters"]) == usage.llm_kept


def test_the_tokens_of_a_clip_are_counted_by_their_own_frame(open_session):
    session = under(open_session("qwen2_vl", "preset=off"), *COMMON, "input={method: evs, keep: 0.4}")
    answer = session.ask("?", videos=[np.repeat(clip(2, 84, 84), [6, 2], axis=0)], trace=True)
    found = survivors(answer)["frames"]
    assert sum(found) == answer.usage.visual.llm_kept
    assert found[0] > found[1]
    assert found[3] > found[1]
