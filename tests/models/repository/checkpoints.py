"""Small checkpoints of the LLaVA-NeXT repository, one of each kind that was published."""

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from tests.builders import write_llava_next, write_llava_onevision
from tests.conftest import clip, picture

OFF = ("preset=off", "generation.max_tokens=4")


def open_checkpoint(folder, *settings):
    return load(config=resolve(str(folder), settings=["model.device=cpu", *settings], environ={}))


# name -> (writer, its overrides, tokens of the tokenizer, conversation)
KINDS = {
    "onevision": (write_llava_onevision, {}, (), "qwen_1_5"),
    "onevision 0.5b": (write_llava_onevision, {"tie_word_embeddings": True}, (), "qwen_1_5"),
    "v1.6 vicuna": (write_llava_next, {}, (), "vicuna_v1"),
    "v1.6 mistral": (write_llava_next, {"text_config": {"model_type": "mistral"}}, (), "mistral_instruct"),
    "v1.6 34b": (write_llava_next, {}, ("<|im_start|>", "<|im_end|>"), "chatml_direct"),
}
MEDIA = {
    "image": {"images": [picture(200, 150, 1)]},
    "images": {"images": [picture(120, 90, 5), picture(64, 140, 6)]},
    "video": {"videos": [clip(3, 96, 64, 1)]},
}
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. "
)
