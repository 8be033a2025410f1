"""Qwen2.5-VL's positions follow a video's time: the same frames at another rate are another question."""

from dataclasses import replace

import pytest
import torch

from illava_cli.media import read_video
from illava_cli.models.families.qwen2_5_vl import seconds_per_grid
from illava_cli.models.families.qwen2_vl import PatchGrid
from illava_cli.models.media import Pixels
from tests.media_files import write_clip
from tests.stock import Stock
from tests.tolerances import FLOAT32

PIXELS = Pixels("video", PatchGrid((1, 2, 2), 2, 2), (2, 2), lambda start, stop: None, lambda n: None)


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
        logits, tokens = stock.answer(text, videos=[list(read_video(path).frames)], tokens=4)
        torch.testing.assert_close(answer.logits, logits, **FLOAT32)
        assert list(answer.token_ids) == tokens[: len(answer.token_ids)]
        first.append(logits)
    assert all((first[0] - other).abs().max() > 10 * FLOAT32["atol"] for other in first[1:])


def test_every_frame_counts_in_the_interval(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", frames=24, fps=12)

    def seconds(**sampling):
        return seconds_per_grid(replace(PIXELS, times=read_video(path, **sampling).timestamps), 2)

    assert seconds() == pytest.approx(2 / 12)
    assert seconds(num_frames=2) == pytest.approx(2 * 23 / 12)
    assert seconds(fps=3) == pytest.approx(2 / 3)
    assert seconds(num_frames=1) == 1
