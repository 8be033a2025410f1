"""Schedules for the small checkpoints: 36 tokens a tile, 6 or 7 tower layers, 6 decoder layers."""

from tests.conftest import IMAGES_ONLY

COMMON = ("preset=off", "generation.max_tokens=6")
LLAVA = ("vision={layers: [1, 3], r: [11, 9]}", "llm={layers: [2, 4], keep: [0.7, 0.8]}")
QWEN = ("vision={layers: [1, 3], drop: 0.2}", "llm={layers: [2, 4], keep: [0.7, 0.8]}", "layout=faithful")

GEMMA = ("vision={layers: [1, 3], drop: 0.2}", "layout=faithful")

# name -> (family, settings)
SCHEDULES = {
    "next grid, paper": ("llava_next", (*COMMON, *LLAVA, "layout=grid", "llm.queries=visual")),
    "next grid, authors": ("llava_next", (*COMMON, *LLAVA, "layout=grid", "variant=authors")),
    "next faithful, original": ("llava_next", (*COMMON, *LLAVA, "layout=faithful", "llm.queries=last")),
    "llava grid, paper": ("llava_onevision", (*COMMON, *LLAVA, "layout=grid", "llm.queries=visual-literal")),
    "llava grid, authors": ("llava_onevision", (*COMMON, *LLAVA, "layout=grid", "variant=authors")),
    "llava faithful, original": ("llava_onevision", (*COMMON, *LLAVA, "layout=faithful", "llm.queries=last")),
    "llava faithful, packed": (
        "llava_onevision",
        (*COMMON, *LLAVA, "layout=faithful", "positions=packed", "llm.queries=visual"),
    ),
    "llava all media together": (
        "llava_onevision",
        (*COMMON, *LLAVA, "layout=grid", "llm.scope=all", "llm.queries=visual"),
    ),
    # nothing merges in its decoder
    "gemma4, paper": ("gemma4", (*COMMON, *GEMMA, "input={keep: 0.7}")),
    "gemma4, authors": (
        "gemma4",
        (*COMMON, *GEMMA, "positions=packed", "variant=authors", "input={keep: 0.6}"),
    ),
    "internvl, original": ("internvl", (*COMMON, *QWEN, "llm.queries=last")),
    "internvl, packed": ("internvl", (*COMMON, *QWEN, "positions=packed", "llm.queries=visual")),
    "internvl, authors": ("internvl", (*COMMON, *QWEN, "variant=authors")),
    "internvl, entry": ("internvl", (*COMMON, *QWEN, "input={keep: 0.6}", "llm.queries=last")),
    "qwen, paper": ("qwen2_vl", (*COMMON, *QWEN, "llm.queries=visual")),
    "qwen, authors": ("qwen2_vl", (*COMMON, *QWEN, "variant=authors")),
    # of the tower's layers 1 and 4 see the whole frame, 2 and 3 their window
    "qwen2.5, paper": ("qwen2_5_vl", (*COMMON, *QWEN, "vision.layers=[1, 4]", "llm.queries=visual")),
    "qwen2.5, authors": ("qwen2_5_vl", (*COMMON, *QWEN, "vision.layers=[1, 2]", "variant=authors")),
    "qwen2.5, windows": ("qwen2_5_vl", (*COMMON, *QWEN, "vision.layers=[0, 2, 3]", "llm.queries=last")),
    # of the tower's layers 1, 3 and 4 are tapped; the first decoder layers get what they gave
    "qwen3, paper": ("qwen3_vl", (*COMMON, *QWEN, "vision.layers=[1, 3]", "llm.queries=visual")),
    "qwen3, authors": ("qwen3_vl", (*COMMON, *QWEN, "vision.layers=[2, 5]", "variant=authors")),
    "qwen3, early": (
        "qwen3_vl",
        (
            *COMMON,
            *QWEN,
            "vision.layers=[0, 4]",
            "llm={layers: [1, 2], keep: [0.7, 0.8]}",
            "llm.queries=last",
        ),
    ),
    "qwen3, entry": ("qwen3_vl", (*COMMON, *QWEN, "input={keep: 0.6}", "llm.queries=last")),
    # of the decoder's layers 1, 3 and 5 have full attention
    "qwen3.5, paper": ("qwen3_5", (*COMMON, *QWEN, "llm.queries=visual")),
    "qwen3.5 moe, authors": ("qwen3_5_moe", (*COMMON, *QWEN, "variant=authors")),
    "qwen3 moe, paper": ("qwen3_vl_moe", (*COMMON, *QWEN, "llm.queries=visual")),
}


def asked_of(name: str, requests: dict) -> list:
    """The names of those `requests` that a schedule's model can be asked."""
    alone = SCHEDULES[name][0] in IMAGES_ONLY
    return [case for case, request in requests.items() if not (alone and request.videos)]
