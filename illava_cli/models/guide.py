"""A second checkpoint that reads the prompt: which frames speak of it, and where in them.

A picture is squashed to the square that the checkpoint was made for, so that all of it is seen; its maps are
those of Free Video-LLM (arXiv 2410.10441) for CLIP, whose patches go through the projection of the pooled
token, and the probability of each pixel for CLIPSeg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import AutoTokenizer, CLIPModel, CLIPSegForImageSegmentation

from illava_cli.config.stages import GuideStage
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.catalog import checkpoint_folder, first_line, read_config
from illava_cli.models.files import BROKEN_FILES
from illava_cli.models.frames import shapes
from illava_cli.models.hf import CLIPImageProcessorPil, ViTImageProcessorPil
from illava_cli.models.whole import refuse_partial
from illava_cli.reduction import METHODS, Box, most_similar_frames, region

PICTURES = 8  # in one pass
DEFAULTS = {"clip": "openai/clip-vit-large-patch14", "clipseg": "CIDAS/clipseg-rd64-refined"}
CLASSES = {
    "clip": (CLIPModel, CLIPImageProcessorPil),
    "clipseg": (CLIPSegForImageSegmentation, ViTImageProcessorPil),
}
OFFLINE_HINT = "name a local one with --set guide.model=DIR"
# index buffers of older checkpoints, which are computed now
COMPUTED = "position_ids"


@dataclass(frozen=True)
class Region:
    """A frame, and the region of it that the tower is shown."""

    frame: int
    box: Box


class Guide:
    """A CLIP or CLIPSeg checkpoint, and how its method chooses."""

    def __init__(self, kind: str, model: nn.Module, tokenizer, image_processor):
        self.kind, self.model = kind, model
        self.tokenizer, self.image_processor = tokenizer, image_processor

    def regions(
        self, pictures: Sequence[np.ndarray], prompt: str, stage: GuideStage, *, frames_alone: bool = False
    ) -> list[Region]:
        """What of an image, or of a video's frames, is shown under a prompt; in the order of the frames.

        Args:
            pictures: (H, W, 3) uint8 each; one is an image.
            frames_alone: only fewer frames make a video shorter, not smaller ones.

        Raises:
            UsageError: an empty prompt.
        """
        if not prompt.strip():
            raise UsageError(f"{stage.method} looks for what the prompt speaks of: the prompt is empty")
        guided, area, share = METHODS[stage.method].guided, stage.keep, 1.0
        if guided.samples and len(pictures) > 1:
            area = max(stage.roi, stage.keep)
            share = stage.keep if frames_alone else stage.keep / area
        similarity, relevance = self.look(pictures, prompt)
        if guided.samples:
            frames = most_similar_frames(similarity, share)
            centres = guided.centre(relevance[frames], area).tolist()
        else:  # one region for all frames, so that what moves still does
            frames = list(range(len(pictures)))
            centres = guided.centre(relevance.mean(0, keepdim=True), area).tolist() * len(frames)
        sizes = shapes(pictures)
        return [
            Region(frame, region(centre, sizes[frame][:2], area))
            for frame, centre in zip(frames, centres, strict=True)
        ]

    @torch.inference_mode()
    def look(self, pictures: Sequence[np.ndarray], prompt: str) -> tuple[Tensor, Tensor]:
        """How much of the prompt is in each picture (F,), and in each cell of it (F, h, w)."""
        longest = self.model.config.text_config.max_position_embeddings
        # an `<|endoftext|>` in the prompt is words: CLIP reads the text off at that token
        settings = {"split_special_tokens": True, "truncation": True, "max_length": longest}
        words = self.tokenizer(prompt, **settings, return_tensors="pt")
        words = words.to(self.model.device)
        look = {"clip": self._clip, "clipseg": self._clipseg}[self.kind]
        found = [
            look(self._pixel_values(pictures[i : i + PICTURES]), words)
            for i in range(0, len(pictures), PICTURES)
        ]
        similarity, relevance = map(torch.cat, zip(*found, strict=True))
        return similarity, relevance

    def _clip(self, pixel_values: Tensor, words) -> tuple[Tensor, Tensor]:
        text = _wide(self.model.get_text_features(**words).pooler_output)  # (1, C)
        seen = self.model.vision_model(pixel_values)
        whole = _wide(self.model.visual_projection(seen.pooler_output))  # (F, C)
        patches = _wide(self.model.visual_projection(seen.last_hidden_state[:, 1:]))  # (F, N, C)
        side = self.model.config.vision_config.image_size // self.model.config.vision_config.patch_size
        cells = cosine_similarity(text, patches, dim=-1).unflatten(1, (side, side))
        return cosine_similarity(text, whole, dim=-1), cells

    def _clipseg(self, pixel_values: Tensor, words) -> tuple[Tensor, Tensor]:
        words = {name: value.expand(len(pixel_values), -1) for name, value in words.items()}
        cells = _wide(self.model(pixel_values=pixel_values, **words).logits).sigmoid()
        return cells.mean((1, 2)), cells

    def _pixel_values(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """(F, 3, S, S) in the model's dtype: all of each picture, squashed to a square."""
        # a CLIP has positions for one size only
        clip = self.kind == "clip"
        edge = self.model.config.vision_config.image_size if clip else self.image_processor.size["height"]
        batch = self.image_processor(
            list(pictures),
            size={"height": edge, "width": edge},
            do_center_crop=False,
            input_data_format="channels_last",
            return_tensors="np",
        )
        values = torch.from_numpy(np.stack(batch["pixel_values"]))
        return values.to(self.model.device, self.model.dtype)


def checkpoint_of(stage: GuideStage) -> tuple[str, str]:
    """Kind and name of the checkpoint that a stage's method looks through."""
    kind = METHODS[stage.method].guided.checkpoint
    return kind, stage.model or DEFAULTS[kind]


def find_guide(stage: GuideStage, note: Callable[[str], None]) -> Path:
    """The folder of a guided method's checkpoint, downloaded where that is needed.

    Raises:
        ModelError: it cannot be downloaded.
        UsageError: it is of another kind.
    """
    kind, name = checkpoint_of(stage)
    folder = checkpoint_folder(name, None, note, hint=OFFLINE_HINT)
    found = read_config(folder)["model_type"]
    if found != kind:
        raise UsageError(
            f"guide.model: {stage.method} takes a {kind!r} checkpoint such as {DEFAULTS[kind]}, "
            f"{name} is a {found!r} one"
        )
    return folder


def load_guide(
    stage: GuideStage, device: torch.device, dtype: torch.dtype, note: Callable[[str], None]
) -> Guide:
    """The checkpoint of a guided method.

    Raises:
        ModelError: it is not whole or not readable, or cannot be downloaded.
        UsageError: it is of another kind.
    """
    kind, name = checkpoint_of(stage)
    folder = find_guide(stage, note)
    model, tokenizer, image_processor = _read(kind, folder, name, dtype)
    return Guide(kind, model.eval().requires_grad_(False).to(device), tokenizer, image_processor)


def _read(kind: str, folder: Path, name: str, dtype: torch.dtype):
    model_class, processor_class = CLASSES[kind]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        image_processor = processor_class.from_pretrained(folder)
        model, info = model_class.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
        )
    except BROKEN_FILES as error:
        raise ModelError(f"cannot load {name}: {first_line(error, 160)}") from error
    info["unexpected_keys"] = [key for key in info["unexpected_keys"] if not key.endswith(COMPUTED)]
    refuse_partial(info, name)
    return model, tokenizer, image_processor


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
