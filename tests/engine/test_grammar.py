"""Answers that conform to a JSON schema: every one parses and validates, whatever the model would say."""

import json
from dataclasses import replace

import pytest
import torch

from illava_cli.config import Config, resolve
from illava_cli.config.sources import grouped, over
from illava_cli.engine import grammar
from illava_cli.engine.grammar import Grammars
from illava_cli.engine.opening import load
from illava_cli.engine.request import Request
from illava_cli.engine.scheduler import Scheduler
from illava_cli.errors import ModelError, UsageError
from tests.conftest import WRITERS, picture
from tests.needs import require

require("llguidance")
jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema: pip install jsonschema")

COLOUR = {"enum": ["red", "green", "blue"]}
COUNT = {"type": "integer", "minimum": 0, "maximum": 12}
WORD = {"type": "string", "maxLength": 4}
SCHEMAS = {
    "enum": COLOUR,
    "bounded integer": COUNT,
    "constant with a letter that is no ASCII": {"const": "gr\u00fcn <image>"},
    "array": {"type": "array", "items": COLOUR, "minItems": 1, "maxItems": 3},
    "object": {
        "type": "object",
        "properties": {"word": WORD, "count": COUNT, "sure": {"type": "boolean"}},
        "required": ["count", "word"],
        "additionalProperties": False,
    },
    "nested": {
        "$defs": {
            "shape": {
                "type": "object",
                "properties": {"colour": COLOUR, "size": COUNT},
                "required": ["colour"],
                "additionalProperties": False,
            }
        },
        "type": "object",
        "properties": {
            "shapes": {
                "type": "array",
                "items": {"$ref": "#/$defs/shape"},
                "maxItems": 2,
            },
            "note": {"anyOf": [{"type": "null"}, WORD]},
        },
        "required": ["shapes", "note"],
        "additionalProperties": False,
    },
}


def valid(answer, schema):
    """The value of an answer that ended by itself and conforms."""
    assert answer.finish_reason == "stop", answer.text
    value = json.loads(answer.text)
    jsonschema.validate(value, schema)
    return value


def following(session, schema, **settings):
    """A session whose answers conform."""
    data = session.config.model_dump(exclude_unset=True)
    wanted = grouped({"json_schema": schema, "max_tokens": 256} | settings)
    return session.asking(Config(**over(data, wanted)))


@pytest.fixture(scope="module")
def tiny():
    return load(config=resolve("tiny", settings=["model.device=cpu"], environ={}))


@pytest.mark.parametrize("name", SCHEMAS)
def test_tiny_follows_a_schema(name, tiny):
    """Greedy and sampled, alone, and in a chat's second turn."""
    schema = SCHEMAS[name]
    greedy = following(tiny, schema)
    chat = greedy.chat()
    valid(chat.ask("What shape is the red one?", ["illava_cli/assets/shapes.jpg"]), schema)
    valid(chat.ask("And its colour?"), schema)
    sampled = following(tiny, schema, temperature=2.0, seed=5)
    found = sampled.sample("How many?", [picture(96, 96)], n=4)
    values = {str(valid(answer, schema)) for answer in found}
    assert name != "object" or len(values) > 1  # they are drawn


def test_the_model_still_chooses(tiny):
    """What it would say anyway is what it says."""
    ask = ("How many shapes are there?", ["illava_cli/assets/shapes.jpg"])
    assert valid(following(tiny, COUNT).ask(*ask), COUNT) == int(tiny.ask(*ask).text) > 0


@pytest.mark.parametrize("family", WRITERS)
def test_a_random_model_follows_a_schema(family, open_session):
    """Of each family's tokenizer; its output head has more rows than that has tokens."""
    session = open_session(family)
    assert len(session.family.unspoken) > session.family.tokenizer.backend_tokenizer.get_vocab_size()
    for schema in SCHEMAS.values():
        for seed in range(2):
            valid(following(session, schema, temperature=1.0, seed=seed).ask("What?"), schema)


def test_rows_of_a_batch_have_schemas_of_their_own(tiny):
    """Free rows beside them say, token by token, what they say alone."""
    asked = Request("What shape is the red one?", ["illava_cli/assets/shapes.jpg"])
    free = [following(tiny, None), following(tiny, None, temperature=1.0, seed=3)]
    bound = [following(tiny, schema, temperature=heat) for schema in SCHEMAS.values() for heat in (0.0, 1.0)]
    sessions = [free[0], *bound, free[1]]
    turns = [session.turn(session.prepare(asked)) for session in sessions]
    assert [turn.constrain is None for turn in turns] == [True, *[False] * len(bound), True]
    scheduler = Scheduler(tiny.runner, len(turns))
    found = tiny._answers(turns, scheduler)
    for session, turn in zip(sessions, turns, strict=True):
        (answer,) = found[turn]
        alone = session.ask(asked.prompt, asked.images)
        assert answer.token_ids == alone.token_ids
        if turn.constrain is not None:
            valid(answer, json.loads(session.config.generation.json_schema))


def test_an_answer_that_is_cut_off_says_so(tiny):
    answer = following(tiny, SCHEMAS["object"], max_tokens=3).ask("What?")
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 3)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_penalties_and_biases_do_not_lead_out_of_it(tiny):
    biased = following(tiny, SCHEMAS["object"], presence_penalty=2, repetition_penalty=50, min_p=0.9)
    valid(biased.ask("What?"), SCHEMAS["object"])
    biased = following(tiny, COUNT, logit_bias={token: 100 for token in range(200, 600)}, temperature=0.7)
    valid(biased.ask("What?"), COUNT)


def test_a_vocabulary_may_be_larger_than_the_logits(open_session):
    """Then what has no logit is not said."""
    session = open_session("qwen2_vl")
    compiled = session.runner.grammars._matcher(json.dumps(COUNT))
    end = session.family.tokenizer.convert_tokens_to_ids("<|im_end|>")
    short = grammar.SchemaConstraint(compiled, torch.ones(60, dtype=torch.bool), [])
    assert short.allowed().shape == (60,)
    assert short.allowed().any()
    assert end >= 60


def test_what_the_model_cannot_say_is_one_line(open_session):
    session = open_session("qwen2_vl")
    compiled = session.runner.grammars._matcher(json.dumps(COUNT))
    with pytest.raises(ModelError, match="no tokens for"):
        grammar.SchemaConstraint(compiled, torch.zeros(600, dtype=torch.bool), [])


def test_a_schema_that_grows_too_large_is_its_own_rows_error(tiny, monkeypatch):
    """The others go on."""
    turns = [session.turn(session.prepare(Request("What?"))) for session in (tiny, following(tiny, COUNT))]

    def broken(self, token):
        raise ModelError("too large")

    monkeypatch.setattr(grammar.SchemaConstraint, "accept", broken)
    scheduler = Scheduler(tiny.runner, 2)
    for turn in turns:
        scheduler.add(turn)
    errors = {turn: error for turn, _, error in scheduler.run()}
    assert errors[turns[0]] is None
    assert str(errors[turns[1]]) == "too large"


def test_what_is_compiled_is_kept_and_bounded(tiny, monkeypatch):
    monkeypatch.setattr(grammar, "KEPT", 3)
    grammars = Grammars(tiny.family)
    configs = [following(tiny, {"const": number}).config for number in range(4)]
    for config in configs[:3]:
        grammars.constrain(config)
    first = grammars._matcher(configs[0].generation.json_schema)
    grammars.constrain(configs[3])
    assert list(map(json.loads, grammars._compiled)) == [{"const": 2}, {"const": 0}, {"const": 3}]
    assert grammars._matcher(configs[0].generation.json_schema) is first
    constrained = grammars.constrain(configs[0])
    one, other = constrained(), constrained()
    (token,) = tiny.family.tokenizer("0")["input_ids"]
    one.accept(token)
    assert not torch.equal(one.allowed(), other.allowed())
    assert one.allowed().nonzero().flatten().tolist() == sorted(tiny.family.end_ids)


def test_a_schema_is_one_value(tiny):
    """A stronger source replaces it whole, and the order of its properties is part of it."""
    ordered = [{"properties": {name: {} for name in names}, "type": "object"} for names in ("ab", "ba")]
    assert len({following(tiny, schema).config.hash() for schema in ordered}) == 2
    both = following(following(tiny, ordered[0]), {"type": "integer"})
    assert json.loads(both.config.generation.json_schema) == {"type": "integer"}
    merged = over({"generation": {"json_schema": ordered[0]}}, {"generation": {"json_schema": COUNT}})
    assert merged["generation"]["json_schema"] == COUNT
    assert following(both, None, max_tokens=16).config.hash() == tiny.config.hash()


def test_a_schema_that_cannot_be_followed_is_refused_where_it_is_read(tiny):
    for schema, words in {
        '{"not": {}}': 'these keywords are not supported: ["not"]',
        '{"type": "objekt"}': "invalid type: objekt",
        '{"$ref": "https://example.org/a.json"}': "not present",
        '{"type": "string", "pattern": "(?=a)"}': "look-ahead",
        '{"minimum": 5, "maximum": 1, "type": "integer"}': "minimum",
    }.items():
        with pytest.raises(UsageError, match=r"generation\.json_schema: cannot be followed") as raised:
            tiny.updated([f"json_schema={schema}"])
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
    deep = json.loads('{"items":' * 400 + "{}" + "}" * 400)
    with pytest.raises(UsageError, match="recursion limit"):
        resolve("tiny", overrides={"generation": {"json_schema": deep}}, environ={})


def test_without_the_library_one_line_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setattr(grammar, "is_installed", lambda: False)
    config = following(tiny, COUNT).config
    for attempt in (lambda: load(config=config), lambda: replace(tiny, config=config).ask("What?")):
        with pytest.raises(UsageError, match=r"pip install 'illava\[structured\]'"):
            attempt()
    assert tiny.ask("What?").finish_reason == "stop"
