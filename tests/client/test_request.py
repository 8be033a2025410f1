"""What is sent of a configuration and of a question, and the record of what comes back."""

import base64
import json

import pytest

from illava_cli.client.answer import generation_of
from illava_cli.client.body import messages
from illava_cli.client.settings import fields, remote
from illava_cli.engine.record import Timings, Usage, VisualUsage
from illava_cli.errors import MediaError, UsageError
from tests.client.fake import completion
from tests.conftest import picture
from tests.media_files import write_clip

URL = "http://h/v1"


def config(*settings, environ=None, **overrides):
    return remote(URL, "m", settings=list(settings), overrides=overrides, environ=environ or {})


def test_only_what_was_said_is_sent():
    """Beside the length and the temperature, which servers set otherwise than this program."""
    assert fields(config()) == {"model": "m", "max_tokens": 512, "temperature": 0.0}
    said = fields(config("preset=paper", "method=fastv", "media.num_frames=8", "media.max_pixels=9"))
    assert said == fields(config()) | {"preset": "paper", "method": "fastv", "num_frames": 8, "max_pixels": 9}


def test_the_settings_of_decoding():
    said = fields(
        config(
            *(
                "generation.temperature=0.5",
                "generation.top_p=0.9",
                "generation.top_k=5",
                "generation.min_p=0.1",
            ),
            *("generation.stop=[a]", "generation.logit_bias={5: -3}", "generation.logprobs=2"),
            *("generation.frequency_penalty=1", "generation.stop_token_ids=[7]", "generation.system=Brief."),
            *("generation.json_schema={type: integer}", "media.media_timeout=3", "media.fps=2"),
        )
    )
    schema = {"name": "answer", "strict": True, "schema": {"type": "integer"}}
    assert said == {
        "model": "m",
        "max_tokens": 512,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 1.0,
        "stop": ["a"],
        "logit_bias": {"5": -3.0},
        "top_k": 5,
        "min_p": 0.1,
        "stop_token_ids": [7],
        "seed": 0,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "fps": 2.0,
    }
    json.dumps(said)
    # where it was said either way: not every server knows it, nor thinks as little by itself
    assert fields(config("generation.thinking=false"))["chat_template_kwargs"] == {"enable_thinking": False}
    assert fields(config(environ={"ILLAVA_THINKING": "1"}))["chat_template_kwargs"] == {
        "enable_thinking": True
    }


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("media.start=3", "media.start cannot be sent"),
        ("media.tile_each=true", "media.tile_each cannot be sent"),
        ("llm.keep=0.5", "llm cannot be sent to a server (of media and merging there are: num_frames"),
        ("model.device=cpu", "leave out device"),
        ("generation.max_token=1", "did you mean 'max_tokens'"),
    ],
)
def test_what_cannot_be_sent_is_refused(setting, words):
    with pytest.raises(UsageError) as raised:
        config(setting)
    assert words in str(raised.value)


def test_the_environment_of_this_machine_is_not_the_servers():
    environ = {"ILLAVA_DEVICE": "cuda", "ILLAVA_MODEL": "x", "ILLAVA_VIDEO_BACKEND": "pyav"}
    assert config(environ=environ) == config()
    assert fields(config(environ={"ILLAVA_MAX_TOKENS": "7", "ILLAVA_NUM_FRAMES": "3"}))["num_frames"] == 3


def test_who_is_asked_is_in_the_identity():
    """And what is sent, and nothing else."""
    hashes = {config(*said).hash() for said in ((), ("preset=auto",), ("generation.system=a",))}
    hashes.add(remote(URL, "other", environ={}).hash())
    hashes.add(remote("http://g/v1", "m", environ={}).hash())
    assert len(hashes) == 5
    assert config("media.media_timeout=5").hash() == config().hash()
    assert config().identity()["server"] == URL


def test_media_stand_where_they_were(tmp_path):
    """Files as data: URLs, addresses as they are."""
    picture(8, 8).save(tmp_path / "a.png")
    clip = write_clip(tmp_path / "c.mp4", frames=2, size=(64, 48))
    (asked,) = messages(
        "Is <image> in <video>, \\<image>?", ["http://u:p@h/b.jpg", str(tmp_path / "a.png")], [str(clip)]
    )
    first, words, second, more, third, end = asked["content"]
    assert first == {"type": "image_url", "image_url": {"url": "http://u:p@h/b.jpg"}}
    head, _, data = second["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "a.png").read_bytes()
    assert third["video_url"]["url"].startswith("data:video/mp4;base64,")
    assert [part["text"] for part in (words, more, end)] == ["Is ", " in ", ", <image>?"]
    again = messages("?", [second["image_url"]["url"]], [], system="Brief.")
    assert again[0] == {"role": "system", "content": "Brief."}
    assert again[1]["content"][0] == second


def test_what_cannot_be_asked(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="the prompt has 2 <image> and there is 1 image"):
        messages("<image> <image>", ["a.png"], [])
    with pytest.raises(UsageError, match="not valid UTF-8"):
        messages("\udcff", [], [])
    with pytest.raises(MediaError, match="no such file"):
        messages("?", [str(tmp_path / "gone.png")], [])
    monkeypatch.setattr("illava_cli.client.body.MAX_BYTES", 10)
    (tmp_path / "large.png").write_bytes(b"x" * 11)
    with pytest.raises(MediaError, match="is over"):
        messages("?", [str(tmp_path / "large.png")], [])


def test_the_record_of_an_answer():
    visual = {"patches": 729, "vision_kept": 361, "llm_in": 361, "llm_kept": 253, "saved": 5, "reused": -1}
    usage = {"prompt_tokens": 300, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 100}}
    own = {"preset": "paper", "timings": {"ttft_s": 0.5, "x": 1}, "notes": ["merging was off", 3]}
    answer = completion("Hi", usage=usage | {"visual_tokens": visual}, illava=own)
    made = generation_of(answer, config(), ["a.png"], ["http://u:p@h/c.mp4"], seconds=2.0, id="q")
    assert (made.id, made.text, made.finish_reason, made.model, made.preset) == (
        "q",
        "Hi",
        "stop",
        "m",
        "paper",
    )
    assert made.usage == Usage(200, 4, VisualUsage(729, 361, 361, 253), 100)
    assert (made.timings, made.notes) == (Timings(ttft_s=0.5), ("merging was off",))
    assert [medium["source"] for medium in made.record()["media"]] == ["a.png", "http://h/c.mp4"]
    assert made.record().keys() >= {"status", "error", "config_hash", "memory"}


def test_the_record_of_an_answer_of_another_server():
    """Which says less, or `null`."""
    bare = {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "content_filter"}]}
    made = generation_of(bare | {"usage": None}, config(), seconds=2.0)
    assert (made.text, made.finish_reason, made.usage, made.preset) == ("No.", "content_filter", Usage(), "")
    assert made.timings == Timings(decode_s=2.0)
    top = [{"token": "a", "logprob": -1.0, "bytes": None}]
    bare["choices"][0]["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
    made = generation_of(bare, config("generation.logprobs=1"))
    assert made.logprobs == ({"token": "a", "logprob": -1.0, "top": [{"token": "a", "logprob": -1.0}]},)


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"choices": []}, {"choices": [{"message": {"content": [1]}}]}, {"choices": [{"message": "x"}]}],
    ids=str,
)
def test_what_is_no_answer(answer):
    with pytest.raises(ValueError, match="has no"):
        generation_of(answer, config())
