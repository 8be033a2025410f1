"""The unmodified models, and what each is called with for the reference's pieces."""

import torch

from tests.reference import FAMILIES, Medium, Schedule


def load(cls, folder, **kwargs):
    model = cls.from_pretrained(folder, dtype=torch.float64, **kwargs).eval()
    model.generation_config.eos_token_id = None
    return model


def stock_inputs(model, pieces):
    """What the unmodified model is called with."""
    family = FAMILIES[model.config.model_type]
    ids, types = [], []
    for piece in pieces:
        if isinstance(piece, Medium):  # a wrong length makes HF raise
            n = family.encode(model, piece, Schedule()).length
            token = getattr(model.config, f"{piece.kind}_token_id", model.config.image_token_id)
            ids += [token] * n
            types += [2 if piece.kind == "video" else 1] * n
        else:
            ids, types = ids + piece, types + [0] * len(piece)
    media = [piece for piece in pieces if isinstance(piece, Medium)]
    images, videos = [m for m in media if m.kind != "video"], [m for m in media if m.kind == "video"]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if family.TYPED:
        inputs["mm_token_type_ids"] = torch.tensor([types])
    return inputs | family.stock_inputs(model, images, videos)
