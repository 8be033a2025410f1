"""The shipped toy tokenizers, architectures and sample media are what the program takes them for."""

import av
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from .builders import TOKENIZERS
from .conftest import WRITERS
from .test_architectures import CLASSES, load_config

ASSETS = TOKENIZERS.parent
COMMON = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPECIAL_TOKENS = {
    "llava-next": ["<image>", "<pad>"],
    "llava-onevision": [*COMMON, "<image>", "<video>"],
    "qwen2-vl": [
        *COMMON,
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ],
}
SPECIAL_TOKENS["gemma-4"] = [
    "<pad>",
    "<bos>",
    "<|turn>",
    "<turn|>",
    "<|image>",
    "<|image|>",
    "<image|>",
    "<|video|>",
]
SPECIAL_TOKENS["internvl"] = [*COMMON, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
SPECIAL_TOKENS |= dict.fromkeys(("qwen3-vl", "qwen3.5"), SPECIAL_TOKENS["qwen2-vl"])
IMAGE, VIDEO = {"type": "image"}, {"type": "video"}


def text(content: str) -> dict:
    return {"type": "text", "text": content}


def turn(role: str, *content: dict) -> dict:
    return {"role": role, "content": list(content)}


@pytest.fixture(scope="module", params=sorted(SPECIAL_TOKENS))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(family):
    return AutoTokenizer.from_pretrained(TOKENIZERS / family)


@pytest.mark.parametrize(
    "sample",
    [
        "What is in this image?",
        "a red ball, 12 trees -- and it's late\n\n  two  spaces\tand a tab ",
        "日本語 Привет ünïcödé العربية",
        "🙂 👩‍👩‍👧 🏳️‍🌈",
        "\x00\x7f control",
    ],
)
def test_any_text_comes_back(tokenizer, sample):
    assert tokenizer.decode(tokenizer(sample).input_ids, skip_special_tokens=True) == sample


def test_special_tokens_are_single_ids(tokenizer, family):
    ids = [tokenizer(token, add_special_tokens=False).input_ids for token in SPECIAL_TOKENS[family]]
    start = ids[0][0]
    assert ids == [[start + i] for i in range(len(ids))]
    assert all(token in tokenizer.all_special_tokens for token in SPECIAL_TOKENS[family])
    assert tokenizer.decode([i for (i,) in ids], skip_special_tokens=True) == ""


def test_tokenizer_is_like_the_family_s(tokenizer, family):
    assert tokenizer.is_fast
    if family == "llava-next":
        assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")
        assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id == 1
        assert tokenizer.tokenize("the image") == ["▁the", "▁image"]
        assert tokenizer.tokenize("日") == ["▁", "<0xE6>", "<0x97>", "<0xA5>"]
        return
    own = ("<bos>", "<turn|>", "<pad>") if family == "gemma-4" else (None, "<|im_end|>", "<|endoftext|>")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == own
    assert len(tokenizer.tokenize(" the image")) == 2  # merges are in use
    assert tokenizer.tokenize("12") == ["1", "2"]  # Qwen2 splits numbers into digits


def test_tokenizer_folders_are_small():
    assert sum(path.stat().st_size for path in TOKENIZERS.rglob("*") if path.is_file()) < 300_000


CHATS = {
    "one image": [turn("user", IMAGE, text("What?"))],
    "string content": [{"role": "user", "content": "Hi"}],
    "system and turns": [
        turn("system", text("Be brief.")),
        turn("user", text("What?"), IMAGE),
        turn("assistant", text("A dog.")),
        turn("user", text("Sure?")),
    ],
    "several images and a video": [turn("user", VIDEO, IMAGE, text("One,"), IMAGE, text(" two."))],
}
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
PROMPTS = {
    ("gemma-4", "one image"): "<bos><|turn>user\n<|image|>What?<turn|>\n",
    ("gemma-4", "string content"): "<bos><|turn>user\nHi<turn|>\n",
    ("gemma-4", "system and turns"): (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nWhat?<|image|><turn|>\n"
        "<|turn>model\nA dog.<turn|>\n<|turn>user\nSure?<turn|>\n"
    ),
    ("gemma-4", "several images and a video"): (
        "<bos><|turn>user\n<|video|><|image|>One,<|image|>two.<turn|>\n"
    ),
    ("llava-next", "one image"): "[INST] <image>\nWhat? [/INST]",
    ("llava-next", "string content"): "[INST] Hi [/INST]",
    ("llava-next", "system and turns"): (
        "<<SYS>>\nBe brief.\n<</SYS>>\n\n[INST] <image>\nWhat? [/INST] A dog.</s> [INST] Sure? [/INST]"
    ),
    ("llava-next", "several images and a video"): "[INST] <image>\n<image>\nOne, two. [/INST]",
    ("llava-onevision", "one image"): "<|im_start|>user <image>\nWhat?<|im_end|>",
    ("llava-onevision", "string content"): "<|im_start|>user \nHi<|im_end|>",
    ("llava-onevision", "system and turns"): (
        "<|im_start|>system \nBe brief.<|im_end|><|im_start|>user <image>\nWhat?<|im_end|>"
        "<|im_start|>assistant \nA dog.<|im_end|><|im_start|>user \nSure?<|im_end|>"
    ),
    ("llava-onevision", "several images and a video"): (
        "<|im_start|>user <image><image><video>\nOne,\n two.<|im_end|>"
    ),
    ("internvl", "one image"): "<|im_start|>user\n<IMG_CONTEXT>\nWhat?<|im_end|>\n",
    ("internvl", "string content"): "<|im_start|>user\nHi<|im_end|>\n",
    ("internvl", "system and turns"): (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?<IMG_CONTEXT>\n<|im_end|>\n"
        "<|im_start|>assistant\nA dog.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
    ),
    ("internvl", "several images and a video"): (
        "<|im_start|>user\n<video>\n<IMG_CONTEXT>\nOne,<IMG_CONTEXT>\n two.<|im_end|>\n"
    ),
    ("qwen2-vl", "one image"): f"{SYSTEM}<|im_start|>user\n{QWEN_IMAGE}What?<|im_end|>\n",
    ("qwen2-vl", "string content"): f"{SYSTEM}<|im_start|>user\nHi<|im_end|>\n",
    ("qwen2-vl", "system and turns"): (
        f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?{QWEN_IMAGE}<|im_end|>\n"
        "<|im_start|>assistant\nA dog.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
    ),
    ("qwen2-vl", "several images and a video"): (
        f"{SYSTEM}<|im_start|>user\n{QWEN_VIDEO}{QWEN_IMAGE}One,{QWEN_IMAGE} two.<|im_end|>\n"
    ),
}


PROMPTS |= {  # the later ones have no system prompt of their own
    (later, chat): prompt.removeprefix(SYSTEM)
    for (own, chat), prompt in PROMPTS.items()
    for later in ("qwen3-vl", "qwen3.5")
    if own == "qwen2-vl"
}
ANSWERS = {"gemma-4": "<|turn>model\n", "llava-next": "", "qwen3.5": "<|im_start|>assistant\n<think>\n"}


@pytest.mark.parametrize("chat", CHATS)
def test_chat_template(tokenizer, family, chat):
    prompt = tokenizer.apply_chat_template(CHATS[chat], tokenize=False)
    assert prompt == PROMPTS[family, chat]
    prompt = tokenizer.apply_chat_template(CHATS[chat], tokenize=False, add_generation_prompt=True)
    assert prompt == PROMPTS[family, chat] + ANSWERS.get(family, "<|im_start|>assistant\n")


def test_qwen3_5_need_not_think():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS / "qwen3.5")
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    prompt = tokenizer.apply_chat_template(CHATS["one image"], **options)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert tokenizer.tokenize("<think>a</think>")[::2] == ["<think>", "</think>"]
    assert tokenizer.decode(tokenizer("<think>a").input_ids, skip_special_tokens=True) == "<think>a"


def test_qwen2_vl_can_number_its_media():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS / "qwen2-vl")
    prompt = tokenizer.apply_chat_template(
        [turn("user", IMAGE, VIDEO, IMAGE)], tokenize=False, add_vision_id=True
    )
    assert f"Picture 1: {QWEN_IMAGE}Video 1: {QWEN_VIDEO}Picture 2: {QWEN_IMAGE}<|im_end|>" in prompt


def test_image_processors_load(family):
    processor = AutoImageProcessor.from_pretrained(TOKENIZERS / family)
    image = Image.open(ASSETS / "sample.jpg")
    inputs = processor(image, return_tensors="pt")
    if family == "llava-onevision":
        assert inputs["pixel_values"].shape == (1, 5, 3, 384, 384)  # the whole and 2x2 tiles
        assert set(processor.image_mean) == set(processor.image_std) == {0.5}
        assert len(processor.image_grid_pinpoints) == 36
    elif family == "llava-next":
        assert inputs["pixel_values"].shape == (1, 5, 3, 336, 336)
        assert processor.image_grid_pinpoints == load_config("llava-next-34b").image_grid_pinpoints
    elif family == "gemma-4":
        assert inputs["num_soft_tokens_per_image"].tolist() == [266]
        assert inputs["pixel_values"].shape == (1, 280 * 9, 768)  # filled up
    elif family == "internvl":
        assert inputs["pixel_values"].shape == (1, 3, 448, 448)  # its processor, not this one, cuts tiles
        assert (processor.min_patches, processor.max_patches) == (1, 12)
    elif family != "qwen2-vl":
        assert inputs["image_grid_thw"].tolist() == [[1, 30, 40]]
        assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (65536, 16777216)
    else:
        assert inputs["image_grid_thw"].tolist() == [[1, 34, 46]]
        assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (3136, 12845056)


def test_toys_hold_their_tokenizer(family):
    size = len(AutoTokenizer.from_pretrained(TOKENIZERS / family))
    assert size <= load_config(f"{family}-toy").text_config.vocab_size < size + 64


def test_samples():
    path = ASSETS / "sample.jpg"
    assert Image.open(path).size == (640, 480)
    assert path.stat().st_size < 60_000
    path = ASSETS / "sample.mp4"
    assert path.stat().st_size < 120_000
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == "h264"
        assert 2.5 < container.duration / 1e6 < 3.5
    assert frames[0].shape == (240, 320, 3)
    centres = [((frame[..., 0] - frame[..., 1:].max(-1)) > 60).nonzero()[1].mean() for frame in frames[4:-4]]
    assert centres == sorted(centres)  # the ball rolls right
    assert centres[-1] - centres[0] > 200


@pytest.mark.parametrize("family", WRITERS)
def test_builders_round_trip(family, tmp_path):
    """Both layouts load with the stock classes, complete and with the same weights."""
    model_class = CLASSES[family][1]
    states = []
    for layout in ("new", "old"):
        folder = WRITERS[family](tmp_path / layout, layout=layout)
        model, info = model_class.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        states.append(model.state_dict())
        assert (folder / "chat_template.json").exists() == (layout == "old")
        AutoImageProcessor.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
    new, old = states
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new)
