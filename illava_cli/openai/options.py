"""A request's options -> our settings: those of OpenAI's API, and what this program adds to them.

Where a request leaves one out, the server's configuration decides, not OpenAI's default: an answer is
greedy unless the server or the request names a temperature.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from illava_cli.config.options import GROUP_OF, GROUPS
from illava_cli.config.presets import preset_names
from illava_cli.config.reading import validate
from illava_cli.config.sources import grouped
from illava_cli.errors import UsageError
from illava_cli.media.sampling import MAX_FPS
from illava_cli.openai.asked import Asked, Bounds
from illava_cli.openai.fields import flag, given, integer, kind, number, one_of, refused, text
from illava_cli.openai.messages import Conversation
from illava_cli.text import near_miss

MAX_STOPS = 64

# what a request's field becomes: a setting, and how its value is read
DECODING: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "temperature": ("temperature", number),
    "top_p": ("top_p", number),
    "top_k": ("top_k", lambda value, at: 0 if value == -1 else number(value, at)),  # elsewhere -1 means all
    "min_p": ("min_p", number),
    "seed": ("seed", number),
    "presence_penalty": ("presence_penalty", number),
    "frequency_penalty": ("frequency_penalty", number),
    "repetition_penalty": ("repetition_penalty", number),
    "logit_bias": ("logit_bias", lambda value, at: _mapping(value, at)),
    "stop": ("stop", lambda value, at: _texts(value, at)),
    "stop_token_ids": ("stop_token_ids", lambda value, at: _numbers(value, at)),
    "ignore_eos": ("ignore_eos", flag),
}
# beyond OpenAI's; also within `mm_processor_kwargs`, as the clients of vLLM send them
PIXELS = ("min_pixels", "max_pixels")
OURS = ("preset", "keep", "method", "num_frames", "fps", "start", "end", "max_tiles", *PIXELS, "video_budget")
NESTED = ("mm_processor_kwargs", "media_io_kwargs")
TEMPLATE, SWITCH = "chat_template_kwargs", "enable_thinking"  # as vLLM has it: whether the model thinks
BESIDE = ("merge_map", TEMPLATE, *NESTED)
# of both endpoints: what changes nothing here, and what is another server's affair
IGNORED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "request_id",
    "priority",
)
# what may be there with these values only, as it changes nothing then
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "moderation": (),
    "min_tokens": (0,),
    "skip_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
}


def refuse_others(fields: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse what asks for something that is not done here.

    Args:
        neutral: the values with which a field is let pass.
    """
    for name, values in neutral.items():
        if name in fields and not any(type(fields[name]) is type(v) and fields[name] == v for v in values):
            refused(name, "is not supported: leave it out")


def decoding(fields: Mapping[str, Any], tokens: tuple[str, ...], bounds: Bounds) -> dict[str, Any]:
    """The settings of the decoding, by their own names.

    Args:
        tokens: the names under which the longest answer may be given, the stronger first.

    Raises:
        RequestError: a value that cannot be; names its field.
    """
    settings = {}
    for name, (setting, read) in DECODING.items():
        if name in fields:
            settings[setting] = checked(setting, read(fields[name], name), name)
    for name in reversed([name for name in tokens if name in fields]):
        settings["max_tokens"] = integer(fields[name], name, 1, bounds.max_tokens)
    if TEMPLATE in fields:
        switch = given(fields[TEMPLATE], TEMPLATE, (SWITCH,))
        if SWITCH in switch:
            settings["thinking"] = flag(switch[SWITCH], f"{TEMPLATE}.{SWITCH}")
    samples = settings.get("temperature", bounds.temperature)
    if samples and bounds.temperature is not None and "seed" not in settings:
        settings["seed"] = secrets.randbits(62)
    return settings


def checked(setting: str, value: Any, at: str) -> Any:
    """A value as the setting has it."""
    try:
        return getattr(validate(GROUPS[GROUP_OF[setting]], {setting: value}, at), setting)
    except UsageError as error:
        inner, _, why = str(error).removeprefix(f"{at}: ").partition(": ")
        place = f"{at}{inner.removeprefix(setting)}" if inner.startswith(setting) else at
        refused(place, why or inner)


def ours(fields: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
    """The options of `OURS`, wherever they stand.

    Raises:
        RequestError: a value that cannot be, or two that contradict one another; names the place.
    """
    found: dict[str, tuple[Any, str]] = {}
    for at, values in _places(fields):
        for name, value in values.items():
            here = f"{at}.{name}" if at else name
            one = READERS[name](value, here, bounds)
            if found.setdefault(name, (one, here))[0] != one:
                refused(here, f"contradicts {found[name][1]}: leave one out")
    options = {name: value for name, (value, _) in found.items()}
    if "start" in options and "end" in options and options["start"] >= options["end"]:
        refused(found["start"][1], "must lie before end")
    if set(PIXELS) <= options.keys() and options["min_pixels"] > options["max_pixels"]:
        refused(found["min_pixels"][1], "is over max_pixels")
    return options


def _places(fields: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    places = [("", {name: fields[name] for name in OURS if name in fields})]
    if "mm_processor_kwargs" in fields:
        at = "mm_processor_kwargs"
        places.append((at, given(fields[at], at, OURS)))
    if "media_io_kwargs" in fields:
        at = "media_io_kwargs"
        for medium, values in given(fields[at], at, ("image", "video")).items():
            known = ("num_frames", "fps", "start", "end") if medium == "video" else ("max_tiles",)
            own = given(values, f"{at}.{medium}", known)
            # vLLM's defaults, which mean that nothing was said
            places.append((f"{at}.{medium}", {name: v for name, v in own.items() if v != -1}))
    return places


READERS: dict[str, Callable[[Any, str, Bounds], Any]] = {
    "preset": lambda value, at, bounds: _preset(value, at),
    "keep": lambda value, at, bounds: _keep(value, at),
    "method": lambda value, at, bounds: text(value, at),
    "num_frames": lambda value, at, bounds: integer(value, at, 1, bounds.max_frames),
    "fps": lambda value, at, bounds: _fps(value, at),
    "start": lambda value, at, bounds: checked("start", number(value, at), at),
    "end": lambda value, at, bounds: checked("end", number(value, at), at),
    "max_tiles": lambda value, at, bounds: integer(value, at, 1, bounds.max_tiles),
    **dict.fromkeys(PIXELS, lambda value, at, bounds: integer(value, at, 1, bounds.max_pixels)),
    "video_budget": lambda value, at, bounds: integer(value, at, 1),
}


def asked(conversation: Conversation, options: dict[str, Any], bounds: Bounds, **rest: Any) -> Asked:
    """A request, from its messages and its options by their own names.

    Args:
        rest: of `Asked`, as it is.
    """
    apart = {name: options.pop(name, None) for name in ("keep", "method")}
    if "fps" in options:
        # as vLLM has it, so many frames a second, but no more than these
        most = options.pop("num_frames", bounds.max_frames)
        options |= {"max_frames": most} if most is not None else {}
    low = conversation.details == {"low"}
    if low:
        options["max_tiles"] = 1
    return Asked(
        conversation.rounds,
        conversation.answers,
        conversation.system,
        grouped(options),
        low_detail=low,
        **apart,
        **rest,
    )


# --- values -------------------------------------------------------------------------------------------


def _preset(value: Any, at: str) -> str:
    names = preset_names()  # no path: a file of the server's is none of a client's affair
    if text(value, at) not in names:
        refused(at, f"there is no such preset{near_miss(value[:60], names)} (there are: {', '.join(names)})")
    return value


def _keep(value: Any, at: str) -> float:
    if not 0 < number(value, at) <= 1:
        refused(at, "must be over 0 and at most 1: the share of the visual tokens that is kept")
    return float(value)


def _fps(value: Any, at: str) -> float:
    if not 0 < number(value, at) <= MAX_FPS:
        refused(at, f"must be over 0 and at most {MAX_FPS:g}")
    return float(value)


def _mapping(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        refused(at, f"must be an object, not {kind(value)}")
    return {name: number(item, f"{at}.{name[:20]}") for name, item in value.items()}


def _texts(value: Any, at: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_STOPS:
        refused(at, f"at most {MAX_STOPS} texts")
    return [text(item, f"{at}[{i}]" if isinstance(value, list) else at) for i, item in enumerate(values)]


def _numbers(value: Any, at: str) -> list[int]:
    if not isinstance(value, list):
        refused(at, f"must be a list of numbers, not {kind(value)}")
    return [number(item, f"{at}[{i}]") for i, item in enumerate(value)]


def schema_of(form: Any, at: str, *, inner: str | None = None) -> dict[str, str]:
    """The setting that a wanted form amounts to (`text`, `json_object` or `json_schema`).

    Args:
        inner: where a schema has its name and the like; None: in the form itself.
    """
    about = ("name", "schema", "strict", "description")
    fields = given(form, at, ["type", *((inner,) if inner else about)])
    if "type" not in fields:
        refused(f"{at}.type", "is missing: text, json_object or json_schema")
    wanted = one_of(fields["type"], f"{at}.type", ("text", "json_object", "json_schema"))
    if wanted == "text":
        return {}
    if wanted == "json_object":
        return {"json_schema": checked("json_schema", {"type": "object"}, at)}
    if inner is not None:
        at = f"{at}.{inner}"
        fields = given(fields.get(inner), at, about)
    schema = fields.get("schema")
    if not isinstance(schema, dict):
        refused(f"{at}.schema", f"must be a JSON schema, which is an object, not {kind(schema)}")
    for name, read in (("name", text), ("description", text), ("strict", flag)):
        if name in fields:
            read(fields[name], f"{at}.{name}")
    return {"json_schema": checked("json_schema", schema, f"{at}.schema")}
