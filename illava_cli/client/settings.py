"""The settings of questions that a server answers: those that can be sent to it, and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from illava_cli.config.options import GenerationOptions
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import ENVIRONMENT, environment, over, parse_setting
from illava_cli.config.stages import ReductionSettings
from illava_cli.config.values import PresetName
from illava_cli.errors import UsageError

# fields that go as they are, where they differ from what a server does by itself
PLAIN = ("top_p", "presence_penalty", "frequency_penalty", "stop", "logit_bias")
# beyond OpenAI's, where they do something; vLLM's servers have the same names
EXTRA = ("top_k", "min_p", "repetition_penalty", "stop_token_ids", "ignore_eos")
# where the user said so: not every server knows them
MEDIA, MERGING = ("num_frames", "fps", "max_tiles", "min_pixels", "max_pixels"), ("preset", "method")
SAMPLING = ("num_frames", "fps")
OPTIONAL = (*EXTRA, *MEDIA, *MERGING)
HERE = ("media_timeout",)  # of media that are read here and sent


class Remote(Config):
    """A configuration of questions that go to a server. `model.id` is the model's name there."""

    server: str
    preset: PresetName = ""  # of a server's own choice
    nested: ClassVar[bool] = False  # whether ours are sent as vLLM's servers take them

    def identity(self) -> dict[str, Any]:
        """All that is sent beside the question: two runs with the same answer the same."""
        return {"server": self.server, "system": self.generation.system, **fields(self)}


class InVllm(Remote):
    """A configuration of questions that a server of vLLM's answers, which runs a model for this command.

    `model.id` is the model's name there; `under` is what it was started with.
    """

    nested: ClassVar[bool] = True
    server: str = "vllm"
    under: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """The server is another one each time, and the same to whoever asks."""
        return super().identity() | {"under": self.under}

    @staticmethod
    def of(config: Config, name: str, passed: Sequence[str] = ()) -> InVllm:
        """The questions' part of a configuration.

        Args:
            passed: further arguments of the server.

        Raises:
            UsageError: a setting that vLLM cannot be told.
        """
        media = config.media.model_dump(exclude_unset=True)
        for option in ("start", "end", "max_frames"):
            if media.get(option) is not None:
                raise UsageError(f"media.{option}: vLLM samples frames, and knows num_frames and fps only")
        data = {
            "model": {"id": name},
            "media": {option: media[option] for option in (*SAMPLING, *HERE) if option in media},
            "generation": config.generation.model_dump(exclude_unset=True),
            "under": config.identity() | {"passed": list(passed)},
        }
        made = validate(InVllm, data, "settings")
        fields(made)
        return made


def remote(
    server: str,
    model: str,
    *,
    settings: list[str] | None = None,
    overrides: dict | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Remote:
    """The configuration of a run on a server.

    Args:
        server: its address, without a password.
        settings, overrides: as of `config.sources.resolve`.
        environ: of its variables those of the decoding, of media and of the preset count.

    Raises:
        UsageError: a setting that cannot be sent, or that there is none of.
    """
    sent = {f"media.{name}" for name in (*MEDIA, *HERE)} | set(MERGING)
    known = {name for name, path in ENVIRONMENT.items() if path in sent or path.startswith("generation.")}
    data = environment({name: value for name, value in environ.items() if name in known})
    for layer in (overrides or {}, *map(parse_setting, settings or [])):
        data = over(data, layer)
    if data.get("model"):
        names = ", ".join(data["model"]) if isinstance(data["model"], dict) else "model"
        raise UsageError(f"--server: the model is the server's, and how it runs: leave out {names}")
    config = validate(Remote, over(data, {"server": server, "model": {"id": model}}), "settings")
    fields(config)
    return config


def fields(config: Config) -> dict[str, Any]:
    """The fields of a request's body beside its messages.

    Raises:
        UsageError: a setting that cannot be sent.
    """
    _refuse_others(config)
    options = config.generation
    body: dict[str, Any] = {
        "model": config.model.id,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
    }
    data = options.model_dump(mode="json")
    for name in (*PLAIN, *EXTRA):
        if getattr(options, name) != GenerationOptions.model_fields[name].default:
            body[name] = data[name]
    if options.temperature or "seed" in options.model_fields_set:
        body["seed"] = options.seed
    if options.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": options.logprobs}
    if options.json_schema is not None:
        named = {"name": "answer", "strict": True, "schema": json.loads(options.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if "thinking" in options.model_fields_set:  # some servers let a model think unless they are told not to
        body["chat_template_kwargs"] = {"enable_thinking": options.thinking}
    ours: dict[str, Any] = {}
    for group, names in ((config.media, MEDIA), (config, MERGING)):
        given = group.model_dump(mode="json", include=set(names) & group.model_fields_set)
        ours |= {name: value for name, value in given.items() if value not in (None, "")}
    return body | (_nested(ours) if isinstance(config, Remote) and config.nested else ours)


def _nested(ours: dict[str, Any]) -> dict[str, Any]:
    """Our fields where vLLM has places for them: its own sampling of frames, and a processor's options."""
    video = {name: ours.pop(name) for name in SAMPLING if name in ours}
    body = {"mm_processor_kwargs": ours} if ours else {}
    return body | ({"media_io_kwargs": {"video": video}} if video else {})


def _refuse_others(config: Config) -> None:
    """Refuse what no request can say: an answer without it would be to another question."""
    media = config.media.model_dump(exclude_unset=True)
    others = [f"media.{n}" for n, value in media.items() if value is not None and n not in (*MEDIA, *HERE)]
    others += config.model_fields_set & (ReductionSettings.model_fields.keys() - {*MERGING})
    if others:
        known = ", ".join((*MEDIA, *MERGING))
        raise UsageError(f"{others[0]} cannot be sent to a server (of media and merging there are: {known})")
