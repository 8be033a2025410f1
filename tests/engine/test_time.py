"""Qwen2.5-VL's positions follow a video's time: the same frames at another rate are another question."""

import pytest
import torch

from illava_cli.media import read_video
from tests.media_files import write_clip
from tests.stock import Stock
from tests.tolerances import FLOAT32


def test_a_video_s_time_is_in_its_positions(tmp_path, checkpoints, open_session):
    session = open_session("qwen2_5_vl", "preset=off", "generation.max_tokens=4", "model.dtype=float64")
    stock = Stock(checkpoints("qwen2_5_vl"), dtype=torch.float64)
    content = [{"type": "video"}, {"type": "text", "text": "What happens?"}]
    text = stock.chat([{"role": "user", "content": content}])
    first = []
    for fps in (1, 2, 12):
        path = write_clip(tmp_path / f"{fps}.mp4", frames=7, fps=fps, size=(96, 64))
        answer = session.ask("What happens?", videos=[path], logits=True)
        stock.seconds = 2 / fps
        logits, tokens = stock.answer(text, videos=[read_video(path).frames], tokens=4)
        torch.testing.assert_close(answer.logits, logits, **FLOAT32)
        assert list(answer.token_ids) == tokens[: len(answer.token_ids)]
        first.append(logits)
    assert all((first[0] - other).abs().max() > 10 * FLOAT32["atol"] for other in first[1:])


def test_every_frame_counts_in_the_interval(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", frames=24, fps=12)
    assert read_video(path).interval == pytest.approx(1 / 12)
    assert read_video(path, num_frames=2).interval == pytest.approx(23 / 12)
    assert read_video(path, fps=3).interval == pytest.approx(1 / 3)
    assert read_video(path, num_frames=1).interval is None
