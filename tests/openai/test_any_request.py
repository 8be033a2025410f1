"""Whatever a client sends: it is read, or refused in one line that names its place. Nothing else happens."""

import json
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from illava_cli.config import Config
from illava_cli.config.reading import validate
from illava_cli.config.sources import over
from illava_cli.openai import chat, responses
from illava_cli.openai.asked import Asked, Bounds
from illava_cli.openai.chat import read_chat
from illava_cli.openai.errors import RequestError, error_body
from illava_cli.openai.fields import read_body
from illava_cli.openai.options import OURS
from illava_cli.openai.parts import MEDIA, MIME, TEXTS
from illava_cli.openai.responses import read_response

WORDS = ["user", "assistant", "system", "developer", "tool", "message", "text", "low", "high", "json_schema"]
WORDS += ["json_object", "off", "auto", "-", "<image>", "\\<video>", "data:image/png;base64,AA", "http://h/a"]
WORDS += [*TEXTS, *MEDIA]
NAMES = [*chat.KNOWN, *responses.KNOWN, *chat.NEUTRAL, *responses.NEUTRAL, *OURS, *MIME, *TEXTS, *MEDIA]
NAMES += ["role", "content", "type", "url", "data", "detail", "format", "schema", "name", "strict", "video"]
NAMES += ["json_schema", "include_usage", "tool_calls", "instructions"]

words = st.sampled_from(WORDS) | st.text(max_size=8) | st.characters().map(str)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
leaves |= st.sampled_from([0, 1, -1, 0.5, 2**64, 10**400, 1e308])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | words, inner, max_size=4)
    ),
    max_leaves=12,
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from([*TEXTS, *MEDIA]) | values},
    optional={name: values for name in (*TEXTS, *MEDIA, "url", "data", "detail", "format", *MIME)},
)
contents = st.text(max_size=8) | st.lists(parts, max_size=4) | values
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer"]) | values, "content": contents},
    optional={"name": values, "tool_calls": values, "type": values},
)
turns = st.lists(messages, max_size=5) | values
options = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
BOUNDS = [
    Bounds(),
    Bounds(paths=True, temperature=None, max_frames=None, max_tiles=None, max_pixels=None),
    Bounds(max_tokens=5),
]
QUIET = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=150)


def refusal(read, *arguments):
    """What was read, or None and the error, which must be one that a client can be told."""
    try:
        return read(*arguments), None
    except RequestError as error:
        return None, error


def is_told(error):
    status, body = error_body(error)
    assert status == 400
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 1000
    json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(("read", "name"), [(read_chat, "messages"), (read_response, "input")])
@given(turns=turns, options=options, bounds=st.sampled_from(BOUNDS), plain=st.booleans())
@example(turns=[{"role": ["user"], "content": "?"}], options={}, bounds=BOUNDS[0], plain=False)
@example(turns="?", options={"temperature": 10**300, "stop_token_ids": [1e308]}, bounds=BOUNDS[0], plain=True)
@example(turns="?", options={"\n\x1b[2J": 1, "\u2028": 2}, bounds=BOUNDS[0], plain=True)
@QUIET
def test_any_body(read, name, turns, options, bounds, plain):
    """`plain` asks a plain question, so that what is wrong with an option is not hidden by its messages."""
    question = [{"role": "user", "content": "?"}]
    asked, error = refusal(read, options | {name: question if plain else turns}, bounds)
    if error is not None:
        return is_told(error)
    assert isinstance(asked, Asked)
    assert len(asked.answers) == len(asked.rounds) - 1
    json.dumps(asdict(asked), allow_nan=False)
    # what was read alone makes a configuration, also after a way through JSON
    for given_ in (asked.settings, json.loads(json.dumps(asked.settings))):
        assert validate(Config, over({}, given_), "here")


@given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
@example(b'{"\\n": 1e999}')
@QUIET
def test_any_bytes(data):
    body, error = refusal(read_body, data)
    if error is not None:
        return is_told(error)
    assert isinstance(body, dict)
