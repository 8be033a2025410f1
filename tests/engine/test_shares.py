"""A share of the visual tokens as a schedule: for each kind of medium, one that a preset leaves whole too."""

import pytest

from illava_cli.engine.reducing import reducing

PRESET = """
layout: faithful
positions: original
vision: {image: {method: bipartite, layers: [2, 3], r: 5}}
llm: {image: {layers: [3], keep: 0.5}, video: %s}
"""


@pytest.mark.parametrize("llm", ["null", "{layers: [3], keep: 0.5}", "{layers: [4], keep: 0.5}"])
def test_a_method_with_a_share_merges_what_the_preset_leaves_whole(llm, open_session, tmp_path):
    (preset := tmp_path / "own.yaml").write_text(PRESET % llm)
    session = open_session("llava_onevision", f"preset={preset}")
    assert not session.schedules["video"].tower
    config = reducing(session.family, session.config, None, 0.25, "illava")
    image, video = (session.under(config).schedules[kind] for kind in ("image", "video"))
    assert image.tower == video.tower
    assert (image.tower_method, video.tower_method) == ("illava", "illava")
    assert 36 - sum(video.tower.of(36).values()) == round(36 * 0.25 ** (2 / 3))
    assert video.decoder
