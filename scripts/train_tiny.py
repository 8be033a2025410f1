"""Trains an embedded model from scratch, or goes on with a run.

    python scripts/train_tiny.py tiny --minutes 150 --work runs/tiny --export illava_cli/assets/tiny
    python scripts/train_tiny.py tiny-qwen --minutes 120 --work runs/qwen --export illava_cli/assets/tiny-qwen

The folder `--work` holds the run: `state.pt` (from which the same command goes on) and `log.jsonl` (losses,
and accuracy by task on validation questions). A file `stop` put there ends the run early, after a short decay
of the learning rate.
`--start FOLDER` begins with a checkpoint's weights, and with the stage in which all parts learn together.
`--export-only` writes the last checkpoint's model without training.
"""

import argparse
from pathlib import Path

import torch
from tiny.checkpoint import ARCHITECTURES
from tiny.trainer import Plan, Trainer

from illava_cli import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("name", choices=list(ARCHITECTURES))
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    parser.add_argument("--export", type=Path, help="folder to write the model to at the end")
    parser.add_argument("--minutes", type=float, default=75.0, help="training time, all stages together")
    parser.add_argument("--start", type=Path, help="folder of the checkpoint to begin with")
    parser.add_argument(
        "--grounding", type=float, default=Plan.grounding, help="weight of the decoder's readers"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--export-only", action="store_true", help="write the last checkpoint's model and end"
    )
    args = parser.parse_args()
    architecture, first = ARCHITECTURES[args.name], args.work / "first"
    args.work.mkdir(parents=True, exist_ok=True)
    if args.start is None and not first.exists():
        model = architecture.model(args.seed)
        architecture.start(model)
        architecture.export(model, first)
    attn = "eager" if args.device == "cpu" else "auto"
    session = load(str(args.start or first), preset="off", device=args.device, dtype="float32", attn=attn)
    plan = Plan(
        60 * args.minutes,
        args.seed,
        grounding=args.grounding,
        first="tower" if args.start is None else "joint",
    )
    trainer = Trainer(session, args.work, plan)
    if not args.export_only:
        trainer.run()
    if args.export is not None:
        architecture.export(trainer.model, args.export)
        print(f"{args.export}: {sum(p.numel() for p in trainer.model.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
