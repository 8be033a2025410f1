"""What a run says: its one record, checked against the contract, and its line of statistics."""

from __future__ import annotations

import json
import re

FAMILIES = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl", "gemma4")
TOKENS = 12
QUESTION = "What is shown here?"
STATISTICS = re.compile(
    r"(\d+( -> \d+)* visual tokens \| )?\d+ tokens? in [\d.]+ s( \(stopped by --max-tokens\))? \| "
    r"first token [\d.]+ s \| peak [\d.]+ [kMG]B\n"
)
COUNTS = ("patches", "vision_kept", "llm_in", "llm_kept", "newlines_in", "newlines_kept")
COUNTS += ("unmerged", "left_out", "frames_in", "frames_kept")
TIMES = ("load_s", "media_s", "vision_s", "prefill_s", "decode_s", "ttft_s")


def record_of(out: str) -> dict:
    """The one object that stdout holds, checked field by field against the contract."""
    assert out.endswith("\n")
    assert out.count("\n") == 1
    record = json.loads(out)
    assert set(record) - {"notes"} == {
        *("id", "status", "text", "finish_reason", "error", "model", "preset", "seed", "config_hash"),
        *("media", "usage", "timings", "memory"),
    }
    assert all(isinstance(record[name], str) for name in ("id", "text", "model", "preset", "config_hash"))
    assert record["id"]
    assert re.fullmatch("[0-9a-f]{12}", record["config_hash"])
    assert (record["status"], record["error"], record["seed"]) == ("ok", None, 0)
    assert record["finish_reason"] in ("stop", "length")
    for medium in record["media"]:
        of_video = {"frames", "times"} if medium["kind"] == "video" else set()
        assert set(medium) == {"source", "kind", "width", "height"} | of_video
    usage = record["usage"]
    assert set(usage) == {"prompt_tokens", "completion_tokens", "visual", "cached_tokens"}
    assert 0 < usage["completion_tokens"] <= TOKENS
    assert tuple(usage["visual"]) == COUNTS
    assert all(isinstance(count, int) for count in usage["visual"].values())
    assert usage["prompt_tokens"] > usage["visual"]["llm_in"] + usage["visual"]["newlines_in"]
    assert tuple(record["timings"]) == TIMES
    assert all(seconds >= 0 for seconds in record["timings"].values())
    assert record["timings"]["ttft_s"] > 0
    assert set(record["memory"]) == {"peak_bytes", "media_reused"}
    assert record["memory"]["peak_bytes"] > 1_000_000
    return record
