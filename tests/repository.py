"""Small checkpoints in the layout of the LLaVA-NeXT repository, from one in `transformers`' own.

    write_repository(folder, write_llava_next(elsewhere), image_aspect_ratio="anyres")

The same weights under that package's names, in two shards; a flat `config.json` with `mm_*` fields; a
tokenizer without placeholders or chat template; no processor. Its vision tower lies beside it as a
directory with a `config.json`. Anything in `fields` replaces a field of the config.
"""

import json
import re
from pathlib import Path

from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

NAMES = {
    r"^model\.vision_tower\.": "model.vision_tower.vision_tower.vision_model.",
    r"^model\.multi_modal_projector\.linear_1\.": "model.mm_projector.0.",
    r"^model\.multi_modal_projector\.linear_2\.": "model.mm_projector.2.",
    r"^model\.language_model\.": "model.",
}
ARCHITECTURES = {
    "llama": "LlavaLlamaForCausalLM",
    "mistral": "LlavaMistralForCausalLM",
    "qwen2": "LlavaQwenForCausalLM",
}
NOT_TEXT = ("layer_types", "model_type", "rope_parameters", "architectures", "dtype")


def write_repository(
    folder: str | Path, source: str | Path, *, marks: tuple[str, ...] = (), **fields
) -> Path:
    """Args:
    source: a checkpoint of `write_llava_next` or `write_llava_onevision`.
    marks: tokens that its tokenizer gets besides.
    """
    folder, source = Path(folder), Path(source)
    folder.mkdir(parents=True)
    model = AutoModelForImageTextToText.from_pretrained(source)
    config = model.config
    weights = {}
    for name, weight in model.state_dict().items():
        if not (name == "lm_head.weight" and config.tie_word_embeddings):
            for ours, theirs in NAMES.items():
                name, done = re.subn(ours, theirs, name)
                if done:
                    break
            weights[name] = weight
    _write_shards(folder, weights)
    text = config.text_config
    flat = {name: value for name, value in text.to_diff_dict().items() if name not in NOT_TEXT}
    siglip = config.vision_config.model_type == "siglip_vision_model"
    pinpoints = [[width, height] for height, width in config.image_grid_pinpoints]
    flat |= {
        "architectures": [ARCHITECTURES[text.model_type]],
        "model_type": "llava",
        "rope_theta": text.rope_parameters["rope_theta"],
        "tie_word_embeddings": config.tie_word_embeddings,
        "image_aspect_ratio": getattr(config, "vision_aspect_ratio", "anyres"),
        "image_grid_pinpoints": pinpoints,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": str(write_tower(folder.with_name(folder.name + "-tower"), config, siglip)),
        "mm_use_im_start_end": False,
        "use_mm_proj": True,
    }
    (folder / "config.json").write_text(json.dumps(flat | fields))
    for name in ("generation_config.json", "tokenizer_config.json"):
        (folder / name).write_text((source / name).read_text())
    _write_tokenizer(folder, source, marks)
    return folder


def write_tower(folder: Path, config, siglip: bool) -> Path:
    """The tower's own checkpoint, as far as it is read: SigLIP has a layer more than is used."""
    folder.mkdir()
    vision = config.vision_config.to_dict()
    vision["num_hidden_layers"] += siglip
    (folder / "config.json").write_text(json.dumps(vision))
    return folder


def _write_shards(folder: Path, weights: dict) -> None:
    names = sorted(weights)
    shards = {f"model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for shard, part in shards.items():
        save_file({name: weights[name].contiguous() for name in part}, folder / shard, {"format": "pt"})
    where = {name: shard for shard, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _write_tokenizer(folder: Path, source: Path, marks: tuple[str, ...]) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    added = [token for token in tokenizer["added_tokens"] if token["content"] not in ("<image>", "<video>")]
    for mark in marks:
        added.append({**added[-1], "id": added[-1]["id"] + 1, "content": mark})
    tokenizer["added_tokens"] = added
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("extra_special_tokens", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
