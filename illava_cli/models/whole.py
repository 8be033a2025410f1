"""Whether a checkpoint had all of a model's weights: a model with random parts answers nonsense."""

from __future__ import annotations

from transformers import PreTrainedModel

from illava_cli.errors import ModelError

FAULTS = ("missing_keys", "mismatched_keys", "unexpected_keys")
TOWER, PROJECTOR = "model.vision_tower.", "model.multi_modal_projector."


def faulty_keys(info: dict, kind: str) -> list[str]:
    """The names of one of `FAULTS` in what `from_pretrained` found, sorted."""
    return sorted(k[0] if isinstance(k, tuple) else k for k in info.get(kind) or [])


def refuse_partial(info: dict, name: str) -> None:
    """Refuse a checkpoint that lacks a weight, has one too many, or one of another shape."""
    for kind in FAULTS:
        if keys := faulty_keys(info, kind):
            raise ModelError(
                f"{name} is not whole: {len(keys)} {kind.replace('_', ' ')} ({keys[0]}): download it again"
            )


def refuse_other_tower(info: dict, model: PreTrainedModel, name: str, tower: str) -> None:
    """A tower that was left out, since it was not trained, or that is not the one its config.json names.

    Args:
        tower: `mm_vision_tower`, the only word on the tower's size that there is.
    """
    missing = set(faulty_keys(info, "missing_keys"))
    faulty = sorted(key for kind in FAULTS for key in faulty_keys(info, kind))
    of_tower = [key for key in faulty if key.startswith(TOWER)]
    if not of_tower:
        return
    if missing >= {key for key in model.state_dict() if key.startswith(TOWER)}:
        raise ModelError(
            f"{name} comes without the weights of its vision tower: add those of {tower} to it, "
            "or name a checkpoint that has them"
        )
    if all(key.startswith((TOWER, PROJECTOR)) for key in faulty):
        raise ModelError(
            f"{name}: {len(of_tower)} weights of its vision tower ({of_tower[0]}) are not those of {tower}, "
            "which its config.json names and whose size was assumed: let mm_vision_tower name a directory "
            "(seen from the checkpoint) with the config.json of the tower that it has, or download it again"
        )
