"""The page's one file: what it holds, what it is safe from, how large it is."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest

from illava_cli.visualize.page import render
from tests.visualize.sample_payload import image_payload, video_payload

HOSTILE = "</script><script>alert(1)</script><!-- \u2028 \ud800 &amp; $title"


def embedded(page: str) -> dict:
    return json.loads(
        re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)[1]
    )


def opened(packed: dict) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(packed["data"]), packed["type"])
    return np.where(array == 0xFFFF, np.nan, array * packed["step"]) if "step" in packed else array


@pytest.mark.parametrize("payload", [image_payload(), video_payload(frames=4)], ids=["image", "video"])
def test_the_sample_accounts_for_every_patch(payload):
    for stage in payload["stages"]:
        slot, weight, anchor = (np.array(stage[name]) for name in ("slot", "weight", "anchor"))
        assert len(anchor) == stage["tokens"]
        assert sorted(set(slot[slot >= 0])) == list(range(stage["tokens"]))
        np.testing.assert_array_equal(slot[anchor], np.arange(stage["tokens"]))
        sums = np.bincount(slot[slot >= 0], weight[slot >= 0])
        np.testing.assert_allclose(sums, 1, atol=0.01)


def test_packed_numbers_are_those_of_the_payload():
    payload = image_payload()
    found = embedded(render(payload))
    np.testing.assert_array_equal(opened(found["patches"]["box"]).reshape(-1, 4), payload["patches"]["box"])
    for stage, given in zip(found["stages"], payload["stages"], strict=True):
        np.testing.assert_array_equal(opened(stage["slot"]), given["slot"])
        np.testing.assert_array_equal(opened(stage["anchor"]), given["anchor"])
        np.testing.assert_allclose(opened(stage["weight"]), given["weight"], atol=1e-5)
    values = np.array(payload["heat"][2]["values"], float)  # None becomes NaN
    assert np.isnan(values).any()
    np.testing.assert_allclose(opened(found["heat"][2]["values"]), values, atol=np.nanmax(values) / 60_000)


def test_slots_beyond_sixteen_bits_keep_their_value():
    payload = image_payload()
    payload["stages"][0]["slot"][5] = 70_000
    assert opened(embedded(render(payload))["stages"][0]["slot"])[5] == 70_000


def test_text_of_the_payload_is_never_markup():
    payload = image_payload()
    payload["title"] = payload["prompt"] = payload["answers"]["merged"]["text"] = HOSTILE
    payload["note"], payload["config"] = [HOSTILE], {"x": "</script>"}
    page = render(payload)
    assert page.count("<script") == page.count("</script>") == 2
    assert "\u2028" not in page.split("</title>")[1]
    assert embedded(page)["prompt"] == HOSTILE


def test_a_value_that_is_no_number_is_refused_rather_than_written():
    payload = image_payload()
    payload["answers"]["agreement"]["kl"] = float("inf")
    with pytest.raises(ValueError, match="JSON"):
        render(payload)


def test_the_page_names_no_address_and_stays_small():
    payload = image_payload() | {"media": [{"kind": "image", "source": "x", "views": []}]}
    page = render(payload)
    assert "http://" not in page
    assert "https://" not in page
    assert len(page) - len(json.dumps(embedded(page))) < 80_000


def test_a_clip_of_32_frames_of_729_patches_with_all_heat_maps_is_under_8_megabytes():
    payload = video_payload(side=27, heat=54)
    pictures = sum(len(view["src"]) for view in payload["media"][0]["views"])
    assert len(render(payload)) - pictures < 6_000_000  # leaves 60 kB for each picture
