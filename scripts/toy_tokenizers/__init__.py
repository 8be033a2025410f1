"""What each family's toy tokenizer is made of: special tokens, chat template, image processor."""

from toy_tokenizers import gemma4, internvl, llava_next, llava_onevision, qwen2_vl, qwen3_5, qwen3_vl

# by the folder's name
FAMILIES = {
    "gemma-4": gemma4.FAMILY,
    "internvl": internvl.FAMILY,
    "llava-next": llava_next.FAMILY,
    "llava-onevision": llava_onevision.FAMILY,
    "qwen2-vl": qwen2_vl.FAMILY,
    "qwen3-vl": qwen3_vl.FAMILY,
    "qwen3.5": qwen3_5.FAMILY,
}
