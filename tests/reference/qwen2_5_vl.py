"""Qwen2.5-VL: in most blocks a patch sees its window only."""

from tests.reference import qwen2_vl
from tests.reference.values import Encoded, Medium, Schedule


def windows(visual, index: int, groups: list[int], columns: int) -> list[list[int]] | None:
    """Indices of the groups that are left, by the window in which they stand; None where all see all."""
    if index in visual.fullatt_block_indexes:
        return None
    side, found = visual.window_size // visual.patch_size // visual.spatial_merge_size, {}
    for i, group in enumerate(groups):
        found.setdefault((group // columns // side, group % columns // side), []).append(i)
    return list(found.values())


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """As `qwen2_vl.encode`, block by block in windows or not."""
    return qwen2_vl.encode(model, medium, schedule, windows)


positions, packs, TYPED = qwen2_vl.positions, False, True
stock_inputs = qwen2_vl.stock_inputs
