"""Conversations are written as the repository writes them, and no name in a prompt is a token."""

import pytest

from illava_cli.engine.prompt import first_turn, later_turn, user_message
from illava_cli.models.conversations import CONVERSATIONS
from tests.asked_alike import markers
from tests.models.repository.checkpoints import KINDS, OFF, VICUNA, open_checkpoint

# (what opens a conversation, what follows an answer, a system prompt)
PRINTED = {
    "qwen_1_5": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n",
        "A dog.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml_direct": (
        "<|im_start|>system\nAnswer the questions.<|im_end|>"
        "<|im_start|>user\n<image>\nWhat?<|im_end|><|im_start|>assistant\n",
        "A dog.<|im_end|><|im_start|>user\nSure?<|im_end|><|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nHi<|im_end|><|im_start|>assistant\n",
    ),
    "vicuna_v1": (
        VICUNA + "USER: <image>\nWhat? ASSISTANT:",
        " A dog.</s>USER: Sure? ASSISTANT:",
        "Be brief. USER: Hi ASSISTANT:",
    ),
    "mistral_instruct": (
        "[INST] <image>\nWhat? [/INST]",
        " A dog. </s>[INST] Sure? [/INST]",
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_are_the_repository_s(name, pair):
    tokenizer = open_checkpoint(pair("v1.6 vicuna")[0]).family.tokenizer
    first, then, system = PRINTED[name]

    def printed(*turns):
        turns = [{"role": role, "content": content} for role, content in turns]
        template = CONVERSATIONS[name]
        return tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    question = ("user", [{"type": "image"}, {"type": "text", "text": "What?"}])
    assert printed(question) == first
    assert printed(question, ("assistant", "A dog."), ("user", "Sure?")) == first + then
    assert printed(("system", "Be brief."), ("user", "Hi")) == system


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_an_end_token_is_not_repeated(name, pair):
    family = open_checkpoint(pair("v1.6 vicuna")[0]).family
    tokenizer = family.tokenizer
    tokenizer.add_tokens(["</s>", "<|im_end|>"], special_tokens=True)
    tokenizer.chat_template = CONVERSATIONS[name]
    mark = "<|im_end|>" if "<|im_end|>" in PRINTED[name][1] else "</s>"
    end = tokenizer.convert_tokens_to_ids(mark)
    question = user_message(family, "Sure?", 0, 0)

    def written(last_token):
        (ids,) = later_turn(family, question, last_token, markers(family))
        return ids

    before, _, after = PRINTED[name][1].partition("A dog.")[2].partition(mark)
    after = tokenizer(after, add_special_tokens=False)["input_ids"]
    before = [*tokenizer(before, add_special_tokens=False)["input_ids"], end]
    family.model.generation_config.eos_token_id = end
    assert written(end) == after
    # an answer that was cut short, perhaps at the very token that follows here
    assert written(None) == before + after
    if before[0] != end:
        assert written(before[0]) == before + after


@pytest.mark.parametrize("layout", ["llava", "hf"])
def test_a_conversation_begins_with_one_bos(layout, pair):
    """Also where the template writes it, as `transformers`' processors see to."""
    family = open_checkpoint(pair("v1.6 vicuna")[layout == "hf"]).family
    question = user_message(family, "What?", 1, 0)
    plain = first_turn(family, question, None, markers(family, 1))
    family.tokenizer.chat_template = "{{ bos_token }}" + family.tokenizer.chat_template
    assert first_turn(family, question, None, markers(family, 1)) == plain
    assert plain[0].count(family.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_s_name_in_a_prompt_is_text(kind, pair):
    """In runs between images as well, which are encoded by themselves."""
    family = open_checkpoint(pair(kind)[0], *OFF).family
    added = family.tokenizer.added_tokens_decoder

    def ids_of(text, system):
        user = user_message(family, f"<image> {text} <image>{text}", 2, 0)
        pieces = (
            first_turn(family, user, system, markers(family, 2)),
            later_turn(family, user, None, markers(family, 2)),
        )
        return [[piece for piece in turn if isinstance(piece, list)] for turn in pieces]

    plain = ids_of("a", "b")
    for name in (token.content for token in added.values()):
        name = name.replace("<image>", r"\<image>").replace("<video>", r"\<video>")
        for runs, template in zip(ids_of(f"x{name} y", f"{name}z"), plain, strict=True):
            controls = [[token for token in run if token in added] for run in runs]
            assert controls == [[token for token in run if token in added] for run in template]
            assert f"x{name} y".replace("\\", "") in family.tokenizer.decode(runs[1])
