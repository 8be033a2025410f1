"""Writes the toy tokenizers, so that `random:` models talk with no download.

    python scripts/make_toy_tokenizer.py [FOLDER]

One folder per family, laid out as on the hub: tokenizer.json, tokenizer_config.json,
chat_template.jinja, preprocessor_config.json. The tokenizers are Qwen2's and Llama's in everything but
size: byte-level BPE with Qwen2's pre-tokenizer, or BPE with Llama's bytes to fall back on, their special
tokens, and a few hundred merges learned from the text below. Any UTF-8 text goes through them and comes
back. The result is the same on every run.
"""

import argparse
import json
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.models import BPE
from toy_tokenizers import FAMILIES

FOLDER = Path(__file__).parents[1] / "illava_cli" / "assets" / "tokenizer"
# with 256 bytes and the special tokens (for Llama also the letters): just under 512
MERGES = 240
LLAMA_MERGES = 200

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_CONTROL = ["<unk>", "<s>", "</s>"]

TEXT = """
The image shows a small house on a green hill. There is a red ball on the left side of the picture,
and a blue box stands on the right. Behind the house you can see three tall trees, and a yellow sun
is shining above the mountains. What is in this image? It is a photo of a garden with flowers.
How many objects are there? There are four objects: two circles, one square and one triangle.
What color is the largest shape? The largest shape is orange. Where is the small white circle?
It is in the middle of the image, to the right of the green square and under the black line.
Is there a person in the picture? No, there is no person, but there is a dog next to the door.
The video shows a ball that moves from left to right. At the beginning of the video the ball is at
the left edge, then it rolls over the grass, and at the end it leaves the frame on the right.
Describe the scene in detail. The scene is set in the morning: the light is soft, the sky is clear,
and the shadows of the trees fall across the path. A man and a woman are walking with their child.
Answer the question with a single word. Yes. Please read the text on the sign. The sign says "open".
You are a helpful assistant. I would like to know what happened before this, and why they think so.
The first picture and the second picture are different: in the first one the car is red, while in
the second one it is blue. Which of them do you prefer? I cannot tell, but both look very nice.
Look at the table: there is a cup of coffee, a plate with some bread, an apple, and a knife. The cup
has been placed near the window, where the sun shines through the glass. Somebody was here just now.
Can you count the people? I can see about ten people; most of them are standing in front of the
building, and others are sitting on the ground. Each of them holds something in the hand.
A short description: a street at night, with lights, cars and buildings. It could be any large city.
What should we do next? We should first find out which way is shorter, and then start as soon as
possible, because it will be dark in less than an hour. That would also give us time for a rest.
The user asks about the system, the model and the image; the assistant answers in a few sentences.
Water, fire, earth and air. One, two, three, four, five, six, seven, eight, nine, ten.
Monday follows Sunday, winter follows autumn, and after every long night there comes another day.
""".strip()


def train(special_tokens: list[str], text: str = TEXT, merges: int = MERGES) -> Tokenizer:
    """A tokenizer of `merges` merges learned from the lines of `text`."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    learned = tokenizer.get_vocab_size() - 256
    if learned != merges:
        raise SystemExit(f"The text gives {learned} merges, not {merges}: write more of it.")
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    )
    return tokenizer


def train_llama(special_tokens: list[str], text: str = TEXT, merges: int = LLAMA_MERGES) -> Tokenizer:
    """The same in Llama's way: spaces are letters, and what has no token falls back to its bytes."""
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner = Tokenizer(BPE())
    learner.normalizer = spaces
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+"), behavior="isolated")
    trainer = trainers.BpeTrainer(vocab_size=2000, min_frequency=2, show_progress=False)
    learner.train_from_iterator(text.splitlines(), trainer)
    learned = json.loads(learner.to_str())["model"]
    pairs = [tuple(pair) for pair in learned["merges"][:merges]]
    letters = [token for token in learned["vocab"] if len(token) == 1]
    tokens = [*LLAMA_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += [left + right for left, right in pairs]
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(ids, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = spaces
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", ids["<s>"])]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in [*LLAMA_CONTROL, *special_tokens]]
    )
    return tokenizer


# how to make a tokenizer, and its settings
LIKE = {
    "qwen2": (
        train,
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "unk_token": None,
        },
    ),
    "llama": (
        train_llama,
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "legacy": True,
            "model_max_length": 4096,
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
    ),
}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path, tokenizer: Tokenizer, family: dict) -> None:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja of a family's settings."""
    _, settings = LIKE[family.get("like", "qwen2")]
    settings = settings | family.get("tokens", {})
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = settings | {
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": [t for t in family["special_tokens"] if t != settings["pad_token"]],
        "split_special_tokens": False,
    }
    ordered = sorted(settings.items(), key=lambda item: (item[0] != "tokenizer_class", item[0]))
    write_json(folder / "tokenizer_config.json", dict(ordered))
    (folder / "chat_template.jinja").write_text(family["chat_template"].lstrip("\n"), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    root = parser.parse_args().folder
    for name, family in FAMILIES.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        make, _ = LIKE[family.get("like", "qwen2")]
        tokenizer = make(family["special_tokens"])
        tokenizer.add_tokens([AddedToken(word, normalized=False) for word in family.get("words", [])])
        write_tokenizer(folder, tokenizer, family)
        write_json(folder / "preprocessor_config.json", family["preprocessor"])
        if "video" in family:
            write_json(folder / "video_preprocessor_config.json", family["preprocessor"] | family["video"])
        print(f"{folder}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
