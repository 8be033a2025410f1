"""Trains the embedded model from scratch, or goes on with a run.

    python scripts/train_tiny.py --minutes 75 --work runs/tiny --export illava_cli/assets/tiny

The folder `--work` holds the run: `state.pt` (from which the same command goes on) and `log.jsonl` (losses,
and accuracy by task on validation questions). A file `stop` put there ends the run early, after a short decay
of the learning rate.
`--start FOLDER` begins with a checkpoint's weights, and with the stage in which all parts learn together.
`--export-only` writes the last checkpoint's model without training.
"""

import argparse
from pathlib import Path

import torch
from tiny.batches import pixel_values
from tiny.checkpoint import build_model, build_tokenizer, export, load_model
from tiny.start import start_tower
from tiny.trainer import Plan, Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    parser.add_argument("--export", type=Path, help="folder to write the model to at the end")
    parser.add_argument("--minutes", type=float, default=75.0, help="training time, all stages together")
    parser.add_argument("--start", type=Path, help="folder of the checkpoint to begin with")
    parser.add_argument(
        "--grounding", type=float, default=Plan.grounding, help="weight of the losses on what questions name"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--export-only", action="store_true", help="write the last checkpoint's model and end"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.start is not None:
        model, tokenizer = load_model(args.start)
    else:
        tokenizer = build_tokenizer()
        model = build_model(tokenizer, args.seed, {}, {})
        start_tower(model.model.vision_tower, pixel_values)
    first = "tower" if args.start is None else "joint"
    plan = Plan(60 * args.minutes, args.seed, grounding=args.grounding, first=first)
    trainer = Trainer(model.to(args.device), tokenizer, args.work, plan)
    if not args.export_only:
        trainer.run()
    if args.export is not None:
        export(model, tokenizer, args.export)
        print(f"{args.export}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
