"""Token counts of the presets on the real geometry, as the method's definition gives them."""

import pytest

from illava_cli.bench.geometry import merged_counts
from illava_cli.config import resolve
from illava_cli.engine.opening import load
from illava_cli.engine.request import Request
from illava_cli.reduction import METHODS
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES


@pytest.fixture(scope="module")
def toy():
    sessions = {}

    def get(name, *settings):
        key = (name, settings)
        if key not in sessions:
            config = resolve(
                f"random:{name}",
                settings=[*settings, "model.device=cpu", "generation.max_tokens=1"],
                environ={},
            )
            sessions[key] = load(config=config)
        return sessions[key]

    return get


def visual(answer):
    v = answer.usage.visual
    return v.patches, v.vision_kept, v.llm_in, v.llm_kept, v.newlines_in, v.newlines_kept


def test_paper_one_tile(toy):
    answer = toy("llava-onevision-toy", "preset=paper", "media.max_tiles=1").ask("?", [picture(300, 200)])
    assert visual(answer) == (729, 361, 361, 253, 1, 1)


def test_paper_two_images(toy):
    answer = toy("llava-onevision-toy", "preset=paper").ask("?", [picture(300, 200), picture(200, 300, 1)])
    assert visual(answer) == (1458, 722, 722, 506, 2, 2)


@pytest.mark.parametrize(
    ("size", "sequence", "rows"), [((640, 480), 1453, 28), ((300, 1200), 1881, 76), ((300, 300), 741, 19)]
)
def test_the_authors_image_preset(toy, size, sequence, rows):
    """The sequences that the authors' code was seen to make; row newlines rank and merge too."""
    answer = toy("llava-onevision-toy", "preset=image").ask("?", [picture(*size)])
    v = answer.usage.visual
    assert (v.llm_in + v.newlines_in, v.newlines_in) == (sequence, rows)
    assert v.llm_kept + v.newlines_kept == sequence - round(sequence * 0.3)


def test_the_authors_video_preset(toy):
    answer = toy("llava-onevision-toy", "preset=video").ask("?", videos=[clip(8, 64, 48)])
    assert visual(answer) == (8 * 729, 8 * 361, 800, 560, 1, 1)


@pytest.mark.parametrize(
    ("size", "visual_in", "newlines"),
    [
        ((640, 480), 2889, 40),
        ((300, 1200), 3645, 108),
        ((300, 300), 1458, 27),
        ((1536, 1152), 729 + 70 * 93, 70),
    ],
)
def test_without_merging(toy, size, visual_in, newlines):
    answer = toy("llava-onevision-toy", "preset=off").ask("?", [picture(*size)])
    v = answer.usage.visual
    assert (v.llm_in, v.llm_kept, v.newlines_in, v.newlines_kept) == (
        visual_in,
        visual_in,
        newlines,
        newlines,
    )


def test_llava_next(toy):
    """24x24 tokens a tile become 16x16; 640x480 fits 2x2 tiles, 48x48 cells, of which 6 rows are padding."""
    one = toy("llava-next-toy", "preset=llava-next", "media.max_tiles=1").ask("?", [picture(300, 200)])
    assert visual(one) == (576, 256, 256, 179, 1, 1)
    for size, sequence, rows in (((640, 480), 256 + 24 * 33, 24), ((300, 900), 256 + 48 * 17, 48)):
        tiles = {24: 5, 48: 4}[rows]
        v = visual(toy("llava-next-toy", "preset=llava-next").ask("?", [picture(*size)]))
        assert v[:2] == (tiles * 576, tiles * 256)
        assert (v[2] + v[4], v[4], v[5]) == (sequence, rows, rows)
        assert v[3] == v[2] - round(v[2] * 0.3)
    faithful = visual(toy("llava-next-toy", "preset=auto").ask("?", [picture(640, 480)]))
    assert faithful == (5 * 576, 5 * 256, 5 * 256, 5 * 256 - round(5 * 256 * 0.3), 36, 36)
    whole = visual(toy("llava-next-toy", "preset=off").ask("?", [picture(640, 480)]))
    assert whole == (5 * 576, 5 * 576, 576 + 36 * 48, 576 + 36 * 48, 36, 36)


def test_faithful_drops_padding_first_and_keeps_every_row(toy):
    """640x480 fits 2x2 tiles of 27 cells: 54x54 with 14 rows of padding, 7 in each tile."""
    answer = toy("llava-onevision-toy", "preset=auto").ask("?", [picture(640, 480)])
    v = answer.usage.visual
    assert (v.patches, v.vision_kept) == (5 * 729, 5 * 361)
    assert (v.llm_in, v.newlines_in, v.newlines_kept) == (5 * 361, 40, 40)
    assert v.llm_kept == v.llm_in - round(v.llm_in * 0.3)


def test_faithful_video_pools_in_proportion(toy):
    answer = toy("llava-onevision-toy", "preset=auto").ask("?", videos=[clip(4, 64, 48)])
    pooled = round(196 * 361 / 729)
    assert visual(answer)[:4] == (4 * 729, 4 * 361, 4 * pooled, 4 * pooled - round(4 * pooled * 0.3))


def test_qwen_drops_a_share_of_the_groups_at_each_layer(toy):
    answer = toy("qwen2-vl-toy", "preset=qwen2-vl").ask("?", [picture(280, 560)])
    groups = 10 * 20
    kept = groups
    for _ in range(4):
        kept -= int(0.16 * kept)
    left = kept
    for _ in range(3):
        left -= round(left * 0.1)
    assert visual(answer) == (groups * 4, kept * 4, kept, left, 0, 0)


def test_qwen2_5_drops_at_full_attention(toy):
    answer = toy("qwen2.5-vl-toy", "preset=qwen2.5-vl").ask("?", [picture(280, 560)])
    groups = 10 * 20
    kept = groups - int(0.3 * groups)
    kept -= int(0.3 * kept)
    left = kept
    for _ in range(3):
        left -= round(left * 0.1)
    assert visual(answer) == (groups * 4, kept * 4, kept, left, 0, 0)
    assert visual(toy("qwen2.5-vl-toy", "preset=auto").ask("?", [picture(280, 560)])) == visual(answer)


def test_qwen3_counts_each_pair_of_frames(toy):
    """16-pixel patches; text stands between the frames, and each keeps as many groups."""
    answer = toy("qwen3-vl-toy", "preset=qwen3-vl").ask("?", [picture(320, 640)])
    groups = kept = 10 * 20
    for _ in range(4):
        kept -= int(0.16 * kept)
    left = kept
    for _ in range(3):
        left -= round(left * 0.1)
    assert visual(answer) == (groups * 4, kept * 4, kept, left, 0, 0)
    assert visual(toy("qwen3-vl-toy", "preset=auto").ask("?", [picture(320, 640)])) == visual(answer)
    session = toy("qwen3-vl-toy", "preset=qwen3-vl")
    video, none = session.ask("?", videos=[clip(5, 320, 320)]), session.ask("?")
    words = session.family.tokenizer("".join(f"<{t} seconds>" for t in ("0.0", "0.1", "0.2")))["input_ids"]
    tokens = video.usage.visual.llm_in
    assert tokens % 3 == 0  # pairs of frames, the last one repeated
    marks = 2 + 3 * 2
    assert video.usage.prompt_tokens == none.usage.prompt_tokens + tokens + len(words) + marks


def test_internvl_keeps_a_share_of_the_groups_of_each_tile(toy):
    """448-pixel tiles of 16x16 groups: 640x480 is cut into 4x3, and seen as a whole after that."""
    answer = toy("internvl-toy", "preset=internvl").ask("?", [picture(640, 480)])
    kept = 256
    for layer in range(1, 5):
        kept = round(256 * 0.85**layer)
    assert kept == 134
    assert visual(answer) == (13 * 1024, 13 * kept * 4, 13 * kept, 13 * kept, 0, 0)
    one = toy("internvl-toy", "preset=off", "media.max_tiles=1").ask("?", [picture(640, 480)])
    few = toy("internvl-toy", "preset=off", "media.max_tiles=5").ask("?", [picture(640, 480)])
    assert (one.usage.visual.llm_in, few.usage.visual.llm_in) == (256, 256)  # 1x1 is nearer to 4:3 than 2x2
    clips = toy("internvl-toy", "preset=off").ask("?", videos=[clip(3, 64, 48)])
    assert clips.usage.visual.llm_in == 3 * 256


def test_gemma4_keeps_a_share_of_the_cells_of_each_picture(toy):
    """Cells of 48 pixels: 640x480 fits 280 of them as 19x14, a frame 70 as 9x7, behind minute and second."""
    answer = toy("gemma-4-toy", "preset=gemma-4").ask("?", [picture(640, 480)])
    kept = 266
    for _ in range(4):
        kept -= int(0.16 * kept)
    assert visual(answer) == (266 * 9, kept * 9, kept, kept, 0, 0)
    session = toy("gemma-4-toy", "preset=off")
    video, none = session.ask("?", videos=[clip(3, 320, 240)]), session.ask("?")
    assert video.usage.visual.llm_in == 3 * 9 * 7
    words = session.family.tokenizer("00:00 <|image><image|> 00:00 <|image><image|> 00:00 <|image><image|>")
    added = video.usage.prompt_tokens - none.usage.prompt_tokens
    assert added == 3 * 63 + len(words["input_ids"])


@pytest.mark.parametrize(("size", "groups", "kept"), [((140, 140), 25, 12), ((84, 140), 15, 8)])
def test_fastv_keeps_what_its_code_keeps_at_exact_halves(toy, size, groups, kept):
    """topk(round(n * keep)), where the others remove round(n * (1 - keep)); a half is rounded to even."""
    schedule = ("preset=off", "llm={layers: [1], keep: 0.5}", "layout=faithful")
    for method, left in (("fastv", kept), ("attention-prune", groups - kept)):
        session = toy("qwen2-vl-toy", *schedule, f"method={method}")
        answer = session.ask("?", [picture(*size)], trace=True)
        assert visual(answer)[2:4] == (groups, left)
        media = [
            one.pixels for one in session.prepare(Request("?", [picture(*size)]), fresh=True).slots.values()
        ]
        gone = answer.usage.prompt_tokens - merged_counts(session, media, answer, 1).decoder[-1]
        assert gone == groups - left  # as the operations are counted


def test_of_few_tokens_one_stays():
    for method in METHODS.values():
        assert [method.left(n, 0.1) for n in (0, 1, 2, 3)] == [0, 1, 1, 1]


def test_max_tiles_bounds_the_tiles(toy):
    for limit, tiles in ((1, 1), (2, 2), (5, 5), (10, 10)):
        session = toy("llava-onevision-toy", "preset=off", f"media.max_tiles={limit}")
        assert session.ask("?", [picture(1152, 1152)]).usage.visual.patches == tiles * 729


@pytest.mark.parametrize("name", [name for name in SCHEDULES if "video" not in name])
def test_what_nothing_merged_would_take_is_known_under_each_schedule(name, open_session):
    family, settings = SCHEDULES[name]
    plain = open_session(family, "preset=off").ask("What?", [picture(200, 150)]).usage
    merged = open_session(family, *settings).ask("What?", [picture(200, 150)]).usage
    assert merged.visual.unmerged == plain.visual.unmerged == plain.visual.llm_in + plain.visual.newlines_in
