"""The settings beside the reduction: of the model, of media, of the decoding."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from illava_cli.config.json_schema import schema_text
from illava_cli.config.values import Count, Strict

LONGEST_S = 10_000_000  # a time limit; timers take little more


class ModelOptions(Strict):
    """Which checkpoint, and how it is loaded."""

    id: str | None = Field(default=None, description="hub id, checkpoint directory or random:NAME")
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    schedule: str | None = Field(
        default=None, description="key of the presets' schedules; by default that of its family and size"
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16", "float64"] = Field(
        default="auto", description="auto: bfloat16 on CUDA (float16 where there is none), float32 on a CPU"
    )
    device: str = Field(
        default="auto", description="auto, cpu, cuda, cuda:N, mps; auto takes a GPU if there is one"
    )
    device_map: str | dict[str, str | int] | None = Field(
        default=None, description="spread over devices (auto, balanced, ...); needs accelerate"
    )
    offload_folder: str | None = Field(default=None, description="where device_map keeps what goes to disk")
    attn: Literal["auto", "sdpa", "flash_attention_2", "eager"] = Field(
        default="auto", description="back end of the attention; auto: sdpa"
    )
    compile: bool = Field(
        default=False, description="torch.compile tower and decoder, CUDA graphs for decoding; slow to start"
    )
    quantization: Literal["bnb-4bit", "bnb-8bit"] | None = Field(
        default=None, description="weights in 4 or 8 bits, by bitsandbytes"
    )
    feature_cache_mb: Annotated[int, Field(ge=0)] = Field(
        default=512, description="encoded media that a session keeps for later questions, in MiB"
    )
    vision_chunk_mb: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="bound on the activations of one pass through the tower, in MiB; 32 on a CPU, else 256",
    )


# No model here looks at more than 17 million pixels; a picture of 100 takes 1 to 2 s and 1 GB to read.
MAX_MEGAPIXELS = 100.0
MOST_PIXELS = 100_000_000  # to which a smaller picture may be enlarged


class MediaOptions(Strict):
    """How images and videos are read."""

    num_frames: Annotated[int, Field(gt=0)] | None = Field(default=None, description="frames, evenly spaced")
    fps: Annotated[float, Field(gt=0)] | None = Field(default=None, description="frames per second")
    max_frames: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="most frames of a video, evenly spaced, where fps would take more"
    )
    video_budget: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="most tokens of a video that enter the decoder: of more frames each has fewer",
    )
    start: Annotated[float, Field(ge=0)] | None = Field(default=None, description="seconds, as players count")
    end: Annotated[float, Field(gt=0)] | None = Field(default=None, description="seconds, as players count")
    max_tiles: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="most tiles of an image; 1 = one padded square"
    )
    min_pixels: Annotated[int, Field(gt=0, le=MOST_PIXELS)] | None = Field(
        default=None, description="fewest pixels that an image or frame is scaled to (Qwen, Gemma)"
    )
    max_pixels: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="most pixels that an image or frame is scaled to (Qwen, Gemma)"
    )
    tile_each: bool = Field(
        default=False, description="tile each of several images too, such as the pages of a document (LLaVA)"
    )
    max_megapixels: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=MAX_MEGAPIXELS,
        description="largest image or frame, in million pixels; a larger JPEG is read smaller",
    )
    video_backend: Literal["auto", "decord", "pyav"] = Field(
        default="auto", description="what reads videos; auto: decord, PyAV for what decord would read wrongly"
    )
    media_timeout: Annotated[float, Field(gt=0, le=LONGEST_S)] | None = Field(
        default=120.0, description="seconds to get and decode one image or video; null = no limit"
    )

    @model_validator(mode="after")
    def _consistent(self) -> MediaOptions:
        if self.num_frames and self.fps:
            raise ValueError("num_frames and fps exclude one another: give one of them")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"start ({self.start:g} s) must lie before end ({self.end:g} s)")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is over max_pixels ({self.max_pixels})")
        return self

    @property
    def bounds(self) -> tuple[int | None, ...]:
        """What of them decides how an image stands before the tower."""
        return self.max_tiles, self.min_pixels, self.max_pixels

    def tiles(self, images: int) -> bool:
        """Whether each of a turn's so many images is tiled, by a model that tiles one that comes alone."""
        return images == 1 or self.tile_each


def _temperature(value: float) -> float:
    if 0 < value < 1e-3:
        raise ValueError("must be 0 (greedy) or at least 0.001")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, int) else value


def _parsed(value: Any) -> Any:
    """The JSON of a text: in the cells of a table all values are texts."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


class GenerationOptions(Strict):
    """How the answer is decoded."""

    max_tokens: Annotated[int, Field(gt=0)] = Field(default=512, description="longest answer, in tokens")
    temperature: Annotated[float, Field(ge=0, le=1e6), AfterValidator(_temperature)] = Field(
        default=0.0, description="0 = greedy"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="sample among the likeliest tokens that are this probable together"
    )
    top_k: Count = Field(default=0, description="sample among so many of the likeliest tokens; 0 = all")
    min_p: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="sample among tokens at least this share as probable as the likeliest"
    )
    repetition_penalty: Annotated[float, Field(ge=1e-3, le=1e3)] = Field(
        default=1.0, description="over 1: tokens that were there become less likely"
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = Field(
        default=0.0, description="taken from the logit of each token that the answer has"
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = Field(
        default=0.0, description="taken from a token's logit for each time that the answer has it"
    )
    logit_bias: Annotated[dict[Count, Annotated[float, Field(ge=-100, le=100)]], BeforeValidator(_parsed)] = (
        Field(default={}, description="added to the logits of tokens, by their ids")
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="of the sampling")
    stop: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = Field(
        default=[], description="strings that end the answer (not included in it)"
    )
    stop_token_ids: Annotated[list[Count], BeforeValidator(_listed), BeforeValidator(_parsed)] = Field(
        default=[], description="tokens that end the answer, by their ids, beside the model's own"
    )
    ignore_eos: bool = Field(
        default=False, description="go on to max_tokens, for measuring: no token of the model's own ends it"
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None, description="log-probabilities of each token and of so many of the likeliest"
    )
    json_schema: Annotated[
        str | None,
        BeforeValidator(schema_text),
        WithJsonSchema({"anyOf": [{"type": kind} for kind in ("object", "string", "null")]}),
    ] = Field(default=None, description="what the answer conforms to: a JSON schema, or its JSON as a text")
    system: str | None = Field(default=None, description="system prompt; default: the template's own")
    thinking: bool = Field(
        default=False,
        description="let a model that can think before it answers; the thoughts are in its text",
    )


GROUPS = {"model": ModelOptions, "media": MediaOptions, "generation": GenerationOptions}
GROUP_OF = {name: group for group, options in GROUPS.items() for name in options.model_fields}

# settings that came after records were first written: where they do nothing, an identity is the one of before
LATER_MEDIA = ("max_frames", "video_budget", "min_pixels", "max_pixels")
LATER_IN_PRESETS = ("predictable", "pixels", "frames")
LATER = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "stop_token_ids",
    "ignore_eos",
    "logprobs",
    "json_schema",
    "thinking",
)
