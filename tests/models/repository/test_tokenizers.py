"""Tokenizers without a tokenizer.json: sentencepiece's, and Qwen's vocabulary and merges."""

import importlib.util
import json

import pytest

from illava_cli.engine.prompt import Slot, first_turn, later_turn, user_message
from illava_cli.errors import ModelError
from tests.asked_alike import markers
from tests.conftest import picture
from tests.models.repository.checkpoints import OFF, VICUNA, open_checkpoint
from tests.needs import require


@pytest.fixture
def only_sentencepiece(pair, tmp_path):
    """A checkpoint whose tokenizer is a sentencepiece file alone, as those of v1.6 are."""
    folder, _ = pair("v1.6 vicuna")
    for path in folder.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    return tmp_path


def test_a_sentencepiece_tokenizer_names_its_package(only_sentencepiece, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found(name) if name != "sentencepiece" else None
    )
    with pytest.raises(ModelError, match=r"pip install 'illava\[sentencepiece\]'"):
        open_checkpoint(only_sentencepiece)


def train_sentencepiece(folder):
    """A small tokenizer.model of the kind that Llama has: nothing normalised, bytes for what is unknown."""
    require("sentencepiece")
    import sentencepiece

    text = folder / "text.txt"
    text.write_text("The image shows a small house on a green hill.\n" * 20 + "What is in this image?\n" * 20)
    (folder / "tokenizer.model").unlink()
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=310,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
    )
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


def set_tokenizer(folder, **settings):
    """Llama's tokenizer_config.json, without whatever is None."""
    path = folder / "tokenizer_config.json"
    path.unlink()
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | settings
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))


@pytest.mark.parametrize("legacy", [None, True, False])
def test_a_sentencepiece_tokenizer_gives_sentencepiece_s_tokens(legacy, only_sentencepiece):
    reference = train_sentencepiece(only_sentencepiece)
    set_tokenizer(only_sentencepiece, tokenizer_class="LlamaTokenizer", legacy=legacy)
    session = open_checkpoint(only_sentencepiece, *OFF)
    for text in ("A chat. USER: ", "[INST] ", "\nWhat is 日 in  this image? [/INST]", "What", "\n"):
        ids = session.family.tokenizer(text)["input_ids"]
        assert ids == [reference.bos_id(), *reference.encode(text)]
        assert session.family.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert session.ask("What?", [picture(90, 60)]).usage.visual.patches == 3 * 36


@pytest.mark.parametrize("legacy", [None, True, False])
def test_runs_between_images_are_encoded_by_themselves(legacy, only_sentencepiece):
    """As the repository's `tokenizer_image_token` does: a prefix space in each, BOS in the first."""
    reference = train_sentencepiece(only_sentencepiece)
    set_tokenizer(only_sentencepiece, tokenizer_class="LlamaTokenizer", legacy=legacy)
    family = open_checkpoint(only_sentencepiece, *OFF).family
    question = user_message(family, "<image> shows what, and <image>?", 2, 0)
    parts = [VICUNA + "USER: ", " shows what, and ", "? ASSISTANT:"]
    head, one, two = map(reference.encode, parts)
    expected = [[reference.bos_id(), *head], Slot("image", 0), one, Slot("image", 1), two]
    assert first_turn(family, question, None, markers(family, 2)) == expected
    assert later_turn(family, question, reference.eos_id(), markers(family, 2))[1:] == expected[1:]


def test_a_name_is_text_in_a_sentencepiece_tokenizer(only_sentencepiece):
    """Its tokens are sentencepiece's own of the same words."""
    reference = train_sentencepiece(only_sentencepiece)
    set_tokenizer(only_sentencepiece, tokenizer_class="LlamaTokenizer")
    family = open_checkpoint(only_sentencepiece, *OFF).family
    question = user_message(family, r"<image> ends </s> here, \<image><s>", 1, 0)
    parts = [VICUNA + "USER: ", " ends </s> here, <image><s> ASSISTANT:"]
    head, tail = map(reference.encode, parts)
    expected = [[reference.bos_id(), *head], Slot("image", 0), tail]
    assert first_turn(family, question, None, markers(family, 1)) == expected


def test_a_qwen_tokenizer_of_vocabulary_and_merges_is_read(pair, tmp_path):
    whole, _ = pair("onevision")
    for path in whole.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    tokenizer = json.loads((whole / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    merges = "\n".join(" ".join(merge) for merge in tokenizer["model"]["merges"])
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges + "\n")
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    ours, theirs = (open_checkpoint(folder, *OFF).family.tokenizer for folder in (tmp_path, whole))
    text = "<|im_start|>user\n<image>\nWhat is shown here, in 2 words?<|im_end|>\n"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
