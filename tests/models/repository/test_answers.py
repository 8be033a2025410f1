"""The same answers as from the layout of `transformers`, and LLaVA-Video's as from the reference."""

import pytest
import torch

from illava_cli.engine.session import Request
from illava_cli.models.catalog import complete
from illava_cli.models.conversations import CONVERSATIONS
from tests.asked_alike import pieces_of, schedule_of
from tests.builders import write_llava_onevision
from tests.conftest import clip, picture
from tests.models.repository.checkpoints import KINDS, MEDIA, OFF, open_checkpoint
from tests.reference import reference_conversation
from tests.repository import write_repository
from tests.stock import Stock
from tests.tolerances import FLOAT32, FLOAT64


@pytest.mark.parametrize(
    ("kind", "media"),
    [(k, m) for k in KINDS for m in MEDIA if m != "video" or KINDS[k][0] is write_llava_onevision],
)
def test_logits_equal_those_of_the_hf_layout(kind, media, pair):
    folder, source = pair(kind)
    session, stock = open_checkpoint(folder, *OFF), Stock(source)
    tokenizer = session.family.tokenizer
    assert tokenizer.chat_template == CONVERSATIONS[KINDS[kind][3]]
    answer = session.ask("What is shown?", **MEDIA[media], logits=True)

    # the same ids for the unmodified model
    stock.tokenizer, config = tokenizer, stock.model.config
    for name in ("image", "video") if "video" in session.family.markers else ("image",):
        number = getattr(session.model.config, f"{name}_token_id")
        assert tokenizer.convert_ids_to_tokens(number) == f"<{name}>"
        setattr(config, f"{name}_token_id", number)
        setattr(stock, f"{name}_id", number)
    images, videos = MEDIA[media].get("images", []), [list(v) for v in MEDIA[media].get("videos", [])]
    content = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    content.append({"type": "text", "text": "What is shown?"})
    logits, tokens = stock.answer(
        stock.chat([{"role": "user", "content": content}]), images, videos, tokens=4
    )
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]


def test_merging_and_a_later_turn(pair):
    session = open_checkpoint(
        pair("v1.6 vicuna")[0], "preset=off", "vision={layers: [1], r: 11}", "llm={layers: [2], keep: 0.5}"
    )
    session = session.updated(["max_tokens=2"])
    chat = session.chat()
    assert chat.ask("What?", [picture(90, 60)]).usage.visual.llm_kept > 0
    assert chat.ask("And?").usage.visual.patches == 0


def test_nothing_is_written(pair):
    folder, _ = pair("onevision")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    open_checkpoint(folder, *OFF)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert complete(folder)


VIDEO = {
    "grid": (
        "layout=grid",
        "vision={layers: [1, 3], r: [11, 9]}",
        "llm={layers: [2], keep: [0.7], queries: last}",
    ),
    "faithful": (
        "layout=faithful",
        "vision={layers: [1, 3], r: [11, 9]}",
        "llm={layers: [2], keep: [0.7], queries: last}",
    ),
    "authors": ("variant=authors", "vision={layers: [1], r: 11}", "llm={layers: [2], keep: [0.7]}"),
}


@pytest.mark.parametrize("name", VIDEO)
def test_llava_video_ends_each_row_of_a_frame_with_a_newline(name, pair, tmp_path):
    _, source = pair("onevision")
    folder = write_repository(tmp_path / "video", source, mm_newline_position="grid", add_faster_video=False)
    settings = ("preset=off", "model.dtype=float64", "generation.max_tokens=2", *VIDEO[name])
    session = open_checkpoint(folder, *settings)
    request = Request("What happens?", videos=[clip(3, 96, 64, 1)])
    answer = session.ask(request.prompt, videos=request.videos, logits=True)
    result = reference_conversation(session.model, [pieces_of(session, request)], schedule_of(session))
    torch.testing.assert_close(answer.logits, result.logits, **FLOAT64)
    visual, (counts,) = answer.usage.visual, result.counts
    for field in ("patches", "vision_kept", "llm_in", "llm_kept", "newlines_in", "newlines_kept"):
        assert getattr(visual, field) == getattr(counts, field), field
    assert visual.newlines_in == 3 * (2 if name == "grid" else 3)  # 16 tokens of a frame are pooled to 2x2
    session = session.with_merging(False)
    whole = session.ask(request.prompt, videos=request.videos).usage.visual
    assert (whole.llm_in, whole.newlines_in) == (3 * 9, 3 * 3)
