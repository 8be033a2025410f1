"""Small random CLIP and CLIPSeg checkpoints in the hub's file layout.

write_clip(folder)
write_clipseg(folder, seed=1)
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation, CLIPTokenizer

MEANS = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
EDGE, PATCH = 56, 7  # 8x8 patches
PICTURE = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, **MEANS}


def write_clip(folder: str | Path, *, seed: int = 0) -> Path:
    """8x8 patches, 2 layers; with the index buffers that older checkpoints hold."""
    folder = Path(folder)
    tokenizer = _tokenizer()
    model = _random(CLIPModel, CLIPConfig(**_config(tokenizer)), seed)
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.embeddings.position_ids"] = torch.arange((EDGE // PATCH) ** 2 + 1)[None]
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    crop = {"do_center_crop": True, "crop_size": EDGE, "size": EDGE, "resample": 3}
    return _finish(folder, tokenizer, PICTURE | crop | {"image_processor_type": "CLIPImageProcessor"})


def write_clipseg(folder: str | Path, *, seed: int = 0) -> Path:
    """Its pictures are larger than the tower was made for, as those of the published one."""
    folder = Path(folder)
    tokenizer = _tokenizer()
    config = CLIPSegConfig(
        **_config(tokenizer), extract_layers=[0, 1], reduce_dim=16, decoder_num_attention_heads=2
    )
    _random(CLIPSegForImageSegmentation, config, seed).save_pretrained(folder)
    edge = EDGE + 2 * PATCH
    size = {
        "size": {"height": edge, "width": edge},
        "resample": 2,
        "image_processor_type": "ViTImageProcessor",
    }
    return _finish(folder, tokenizer, PICTURE | size)


def _config(tokenizer) -> dict:
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return {
        "projection_dim": 24,
        "text_config": {**layer, **ends, "projection_dim": 24, "vocab_size": len(tokenizer)},
        "vision_config": {**layer, "projection_dim": 24, "image_size": EDGE, "patch_size": PATCH},
    }


def _tokenizer() -> CLIPTokenizer:
    """One token a byte, and one for each byte that ends a word."""
    bytes_ = sorted(ByteLevel.alphabet())
    words = [*bytes_, *(b + "</w>" for b in bytes_), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])


def _random(model_class, config, seed: int):
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def _finish(folder: Path, tokenizer, preprocessor: dict) -> Path:
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    return folder
