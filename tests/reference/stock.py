"""The unmodified models, and what each is called with for the reference's pieces."""

import torch

from tests.reference import FAMILIES, Medium, Schedule, qwen2_vl


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
            is_video = piece.kind == "video"
            ids += [getattr(model.config, f"{'video' if is_video else 'image'}_token_id")] * n
            types += [2 if is_video else 1] * n
        else:
            ids, types = ids + piece, types + [0] * len(piece)
    media = [piece for piece in pieces if isinstance(piece, Medium)]
    images, videos = [m for m in media if m.kind != "video"], [m for m in media if m.kind == "video"]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if family.positions is qwen2_vl.positions:
        inputs["mm_token_type_ids"] = torch.tensor([types])
        if images:
            inputs["pixel_values"] = torch.cat([m.pixel_values for m in images])
            inputs["image_grid_thw"] = torch.tensor([m.grid_thw for m in images])
        if videos:
            inputs["pixel_values_videos"] = torch.cat([m.pixel_values for m in videos])
            inputs["video_grid_thw"] = torch.tensor([m.grid_thw for m in videos])
            if seconds := [m.seconds for m in videos if m.seconds]:
                inputs["second_per_grid_ts"] = torch.tensor(seconds)
        return inputs
    if images:
        most = max(len(m.pixel_values) for m in images)
        inputs["pixel_values"] = torch.stack(
            [torch.cat([m.pixel_values, torch.zeros(most - len(m.pixel_values), 3, 84, 84)]) for m in images]
        )
        inputs["image_sizes"] = torch.tensor([m.size for m in images])
        if model.config.model_type == "llava_next":
            return inputs
        # HF tiles images that come alone and leaves those that come together.
        squares = sum(m.kind == "square" for m in images)
        assert [m.kind for m in images] == ["anyres"] * (len(images) - squares) + ["square"] * squares
        inputs["batch_num_images"] = torch.tensor(
            [1] * (len(images) - squares) + [max(squares, 2)] * (squares > 0)
        )
    if videos:
        inputs["pixel_values_videos"] = torch.stack([m.pixel_values for m in videos])
    return inputs
