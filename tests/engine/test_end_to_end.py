"""Merged logits equal a slow second implementation, in float64.

`tests/reference` was written from the definitions alone: stock layers, full attention maps, loops
over tokens; it shares no code with the package. Here both get the same prompts and pixels.
"""

from dataclasses import replace

import pytest
import torch

from illava_cli.engine.session import Request
from tests.asked_alike import pieces_of, schedule_of
from tests.conftest import IMAGES_ONLY, clip, picture
from tests.reduction import slow
from tests.reference import reference_conversation, reference_greedy
from tests.schedules import SCHEDULES, asked_of
from tests.tolerances import FLOAT64, NEIGHBOURS

pytestmark = pytest.mark.usefixtures("exact_in_float64")
REQUESTS = {
    "one tile": Request("What?", [picture(80, 80, 1)]),
    "tiles with padding": Request("What is it?", [picture(200, 150, 2)]),
    "tall": Request("What is it?", [picture(50, 330, 3)]),
    "interpolated": Request("What is it?", [picture(500, 470, 4)]),
    "two images": Request("Compare <image> and <image>.", [picture(120, 90, 5), picture(64, 140, 6)]),
    "video": Request("What happens?", videos=[clip(3, 96, 64, 1)]),
    "image and video": Request("Both?", [picture(150, 150, 7)], [clip(2, 64, 96, 2)]),
    "text": Request("Nothing to see."),
}
# of Qwen2.5-VL not `authors`: a group alone in its window then has a score of 1, but for the last bit
BEFORE_THE_DECODER = [
    *("llava faithful, original", "next faithful, original", "internvl, original", "internvl, authors"),
    *("qwen, paper", "qwen2.5, paper", "qwen3, paper", "qwen3, early", "qwen3.5, paper"),
    *("qwen3 moe, paper", "gemma4, authors"),
]
FRAME_BY_FRAME = ("gemma4", "internvl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5")


@pytest.fixture(scope="module")
def double(open_session):
    def get(name):
        family, settings = SCHEDULES[name]
        return open_session(family, *settings, "model.dtype=float64")

    return get


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in SCHEDULES for case in asked_of(name, REQUESTS)]
)
def test_merged_logits_equal_the_reference(name, case, double):
    session, request = double(name), REQUESTS[case]
    answer = session.ask(request.prompt, request.images, request.videos, logits=True)
    pieces, schedule = pieces_of(session, request), schedule_of(session)
    result = reference_conversation(session.model, [pieces], schedule)
    torch.testing.assert_close(answer.logits, result.logits, **FLOAT64)
    visual = answer.usage.visual
    for field in ("patches", "vision_kept", "llm_in", "llm_kept", "newlines_in", "newlines_kept"):
        assert getattr(visual, field) == sum(getattr(c, field) for c in result.counts), field
    assert answer.usage.prompt_tokens == result.prompt_tokens
    if request.images or request.videos:
        assert visual.vision_kept < visual.patches
        kept, entered = visual.llm_kept + visual.newlines_kept, visual.llm_in + visual.newlines_in
        assert (kept < entered) == bool(schedule.llm)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name.startswith(("llava", "next"))])
def test_several_tiled_images_equal_the_reference(name, open_session):
    """Counts, layouts and decoder merges of each are those of an image that comes alone."""
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings, "model.dtype=float64", "media.tile_each=true")
    request = Request("Compare <image> and <image>.", [picture(200, 150, 2), picture(500, 470, 4)])
    answer = session.ask(request.prompt, request.images, logits=True)
    result = reference_conversation(session.model, [pieces_of(session, request)], schedule_of(session))
    torch.testing.assert_close(answer.logits, result.logits, atol=1e-8, rtol=0)
    visual = answer.usage.visual
    for field in ("patches", "vision_kept", "llm_in", "llm_kept", "newlines_in", "newlines_kept"):
        assert getattr(visual, field) == sum(getattr(c, field) for c in result.counts), field
    assert visual.newlines_in > 2  # each has rows of its own


EVERY_METHOD = [
    (method, name, case)
    for method in [*(m for m in slow.METHODS if m != "prumerge"), "bipartite, proportional"]
    for name, case in [
        ("llava faithful, original", "tiles with padding"),
        ("llava faithful, original", "image and video"),
        ("next faithful, original", "two images"),
        ("qwen, paper", "image and video"),
        ("qwen2.5, paper", "image and video"),
        ("qwen3, paper", "image and video"),
        ("gemma4, paper", "two images"),
        ("qwen3.5, paper", "image and video"),
        ("internvl, original", "image and video"),
    ]
    if (method, name) != ("fastv", "gemma4, paper")  # which merges in the decoder alone
]


@pytest.mark.parametrize(("method", "name", "case"), EVERY_METHOD)
def test_every_method_equals_the_reference(method, name, case, open_session):
    family, settings = SCHEDULES[name]
    method, _, proportional = method.partition(", ")
    settings = [*settings, f"method={method}", f"vision.proportional={bool(proportional)}"]
    session, request = open_session(family, *settings, "model.dtype=float64"), REQUESTS[case]
    answer = session.ask(request.prompt, request.images, request.videos, logits=True)
    schedule = schedule_of(session)
    result = reference_conversation(session.model, [pieces_of(session, request)], schedule)
    # of two patches that show the same, either may be the nearest: the last bit decides
    torch.testing.assert_close(answer.logits, result.logits, **NEIGHBOURS)
    assert answer.usage.visual.llm_kept == sum(c.llm_kept for c in result.counts)
    other = replace(schedule, method="illava" if method != "illava" else "assign", queries="last")
    wrong = reference_conversation(session.model, [pieces_of(session, request)], other)
    assert (answer.logits - wrong.logits).abs().max() > 10 * NEIGHBOURS["atol"]


@pytest.mark.parametrize("case", ["tiles with padding", "interpolated", "two images", "image and video"])
@pytest.mark.parametrize(
    "settings",
    [
        ["method=prumerge"],
        ["input.method=prumerge"],
        ["input.method=prumerge", "input.keep=0.4", "vision=null"],
        ["input.method=illava", "input.keep=0.5", "llm=null"],
    ],
)
@pytest.mark.parametrize("name", BEFORE_THE_DECODER)
def test_a_reduction_before_the_decoder_equals_the_reference(name, settings, case, open_session):
    family, common = SCHEDULES[name]
    if case not in asked_of(name, REQUESTS):
        pytest.skip("takes images only")
    if SCHEDULES[name][0] in FRAME_BY_FRAME and "video" in case and "keep" not in str(settings):
        pytest.skip("in the reference a frame is a medium, which finds its own number")
    session = open_session(family, *common, *settings, "model.dtype=float64")
    request = REQUESTS[case]
    answer = session.ask(request.prompt, request.images, request.videos, logits=True)
    schedule = schedule_of(session)
    result = reference_conversation(session.model, [pieces_of(session, request)], schedule)
    torch.testing.assert_close(answer.logits, result.logits, **FLOAT64)
    visual = answer.usage.visual
    for field in ("patches", "vision_kept", "llm_in", "llm_kept"):
        assert getattr(visual, field) == sum(getattr(c, field) for c in result.counts), field
    assert visual.llm_in < visual.vision_kept


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("llava grid, authors", "image and video"),
        ("llava faithful, original", "image and video"),
        ("next faithful, original", "two images"),
        ("qwen, paper", "image and video"),
        ("qwen2.5, paper", "image and video"),
        ("qwen3, early", "image and video"),
        ("qwen3 moe, paper", "image and video"),
        ("qwen3.5, paper", "image and video"),
        ("internvl, packed", "image and video"),
        ("gemma4, paper", "image and video"),
    ],
)
def test_greedy_tokens_equal_the_reference(name, case, double):
    session, request = double(name), REQUESTS[case]
    answer = session.ask(request.prompt, request.images, request.videos)
    pieces, never = pieces_of(session, request), session.family.unspoken.nonzero().flatten().tolist()
    tokens = reference_greedy(session.model, pieces, schedule_of(session), 6, never)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_second_turn_equals_a_recompute_with_the_first_turns_merges(name, double):
    session = double(name)
    turns = [
        Request("What?", [picture(200, 150, 2)]),
        Request("And now?", [picture(90, 160, 3)], [clip(2, 60, 60)]),
    ]
    if SCHEDULES[name][0] in IMAGES_ONLY:
        turns[1] = replace(turns[1], videos=())
    chat = session.chat()
    first = chat.ask(turns[0].prompt, turns[0].images)
    second = chat.ask(turns[1].prompt, turns[1].images, turns[1].videos, logits=True)
    opening = pieces_of(session, turns[0])
    later = pieces_of(session, turns[1], later=True, last=list(first.token_ids))
    later = (
        [[*first.token_ids, *later[0]], *later[1:]]
        if isinstance(later[0], list)
        else [list(first.token_ids), *later]
    )
    result = reference_conversation(session.model, [opening, later], schedule_of(session))
    torch.testing.assert_close(second.logits, result.logits, **FLOAT64)


@pytest.mark.parametrize(
    "name",
    [
        "llava grid, paper",
        "llava faithful, original",
        "next grid, paper",
        "qwen, paper",
        "qwen2.5, paper",
        "qwen3, early",
        "internvl, original",
    ],
)
@pytest.mark.parametrize("stage", ["vision", "llm"])
def test_an_off_by_one_layer_is_noticed(name, stage, double):
    session, request = double(name), REQUESTS["tiles with padding"]
    answer = session.ask(request.prompt, request.images, logits=True)
    right = schedule_of(session)
    shifted = {layer + 1: budget for layer, budget in getattr(right, stage).items()}
    wrong = reference_conversation(
        session.model, [pieces_of(session, request)], replace(right, **{stage: shifted})
    )
    assert (answer.logits - wrong.logits).abs().max() > 1e-3


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_image_matters(name, double):
    session = double(name)
    one, other = (session.ask("What?", [picture(150, 120, seed)], logits=True).logits for seed in (1, 2))
    assert (one - other).abs().max() > 0.05


@pytest.mark.parametrize("name", SCHEDULES)
def test_merging_changes_something(name, double):
    """Else the tests above could pass with the schedule ignored on both sides."""
    session, request = double(name), REQUESTS["tiles with padding"]
    merged = session.ask(request.prompt, request.images, logits=True)
    session = session.with_merging(False)
    whole = session.ask(request.prompt, request.images, logits=True)
    session = session.with_merging(True)
    assert (merged.logits - whole.logits).abs().max() > 1e-3
