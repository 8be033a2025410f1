"""The unmodified `transformers` model on our weights: same tensors, a stock instance, nothing bound to it.

What only this side asks of a family is a class here, a line in `STOCK`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from illava_cli.bench.stock.base import StockFamily
from illava_cli.bench.stock.gemma4 import StockGemma4
from illava_cli.bench.stock.internvl import StockInternVL
from illava_cli.bench.stock.llava import StockLlavaNext, StockLlavaOnevision
from illava_cli.bench.stock.qwen import StockQwen2_5VL, StockQwen2VL, StockQwen3VL
from illava_cli.engine import prompt as prompts
from illava_cli.engine.request import Slot
from illava_cli.errors import UsageError
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels
from illava_cli.models.schedule import Schedule

# by the `model_type` of a checkpoint
STOCK: dict[str, type[StockFamily]] = {
    "gemma4": StockGemma4,
    "internvl": StockInternVL,
    "llava_next": StockLlavaNext,
    "llava_onevision": StockLlavaOnevision,
    "qwen2_vl": StockQwen2VL,
    "qwen2_5_vl": StockQwen2_5VL,
    "qwen3_5": StockQwen3VL,
    "qwen3_5_moe": StockQwen3VL,
    "qwen3_vl": StockQwen3VL,
    "qwen3_vl_moe": StockQwen3VL,
}


def stock_family(family: Family) -> StockFamily:
    """The side of a family that is measured."""
    return STOCK[family.key](family)


def stock_model(family: Family) -> nn.Module:
    """A new instance of the model's class that shares every weight with `family.model`.

    Raises:
        UsageError: the weights are quantized or spread over devices.
    """
    ours = family.model
    if hasattr(ours, "hf_device_map") or getattr(ours, "hf_quantizer", None) is not None:
        raise UsageError("illava bench measures whole models: leave --quantization and --device-map out")
    config = copy.deepcopy(ours.config)
    config._attn_implementation = ours.config.text_config._attn_implementation
    with torch.device("meta"):
        model = type(ours)._from_config(config, dtype=ours.dtype)
    model.load_state_dict(ours.state_dict(), assign=True)
    for name, buffer in ours.named_buffers():  # those that a state dict leaves out
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)
    model.generation_config = copy.deepcopy(ours.generation_config)
    return model.requires_grad_(False).eval()


def prompt_ids(family: Family, text: str, images: int, videos: int, media: Sequence[Pixels]) -> list[int]:
    """Token ids of a question about `media` (images first), each placeholder repeated for its tokens."""
    user = prompts.user_message(family, text, images, videos)
    ids: list[int] = []
    markers = {"image": media[:images], "video": media[images:]}
    markers = {kind: [family.marker(kind, one) for one in markers[kind]] for kind in family.markers}
    for piece in prompts.first_turn(family, user, None, markers):
        if isinstance(piece, Slot):
            pixels = media[piece.index + (images if piece.kind == "video" else 0)]
            runs = pixels.segments if pixels.form.apart else 1
            count = family.tokens(pixels, Schedule()).total // runs
            ids += [family.placeholder_ids[piece.kind]] * count
        else:
            ids += piece
    return ids


def model_inputs(
    family: Family, model: nn.Module, rows: Sequence[Sequence[Pixels]], ids: Sequence[list[int]]
) -> dict[str, Tensor]:
    """Everything that `generate` takes, on the device; rows of equal length need no padding."""
    media = [pixels for row in rows for pixels in row]
    inputs = stock_family(family).inputs(model, media)
    inputs["input_ids"] = torch.tensor(ids)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if family.rope_axes > 1 or family.layers.whole:  # whose positions or masks ask what a token is of
        kinds = {"image": 1, "video": 2}
        types = torch.zeros_like(inputs["input_ids"], dtype=torch.int32)
        for kind, token in family.placeholder_ids.items():
            types[inputs["input_ids"] == token] = kinds[kind]
        inputs["mm_token_type_ids"] = types
    return on_device(family, model, inputs)


def on_device(family: Family, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """`inputs` on the model's device, pixels in its dtype."""
    return {
        name: value.to(family.device, model.dtype if name.startswith("pixel_values") else None)
        for name, value in inputs.items()
    }
