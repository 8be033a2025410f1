"""Clips whose unmerged tokens do not fit the context of `tiny`: ways to ask about them, side by side.

    .venv/bin/python scripts/long_clips.py --frames 32 --questions 600

The world's video questions, each of their eight frames held as long as it takes. The context has 32 positions
a frame, as the model's own 4,096 for 128 frames; the preset is the paper's. Prints a table in Markdown:
shares of right answers, and their differences from a context that is long enough, with intervals at 95 %.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from unittest import mock

import torch

from illava_cli.config import resolve
from illava_cli.engine import assemble
from illava_cli.engine.opening import load
from illava_cli.evals.matching import is_right
from illava_cli.evals.statistics import paired_difference, share
from illava_cli.evals.world import questions
from illava_cli.evals.world.motion import FRAMES, TASKS

A_FRAME = 32  # positions of the context
WHOLE = 36  # positions of a frame, unmerged
LONG = "a longer context"


def longest_first(positions, media, end, wanted):
    """The rule that was not kept, for one axis: empty spans are cut to one length, or to one more."""
    gaps = positions[0].diff(prepend=positions.new_tensor([-1])) - 1
    room = max(0, wanted - len(gaps))
    cap = max(n for n in range(int(gaps.max()) + 1) if int(gaps.clamp(max=n).sum()) <= room)
    longer = (gaps > cap).long().cumsum(0)
    more = longer * (room - int(gaps.clamp(max=cap).sum())) // max(1, int(longer[-1]))
    moments = (gaps.clamp(max=cap) + 1).cumsum(0) + more - 1
    return moments[None], int(moments[-1]) + 1


@contextmanager
def asked_with(session, context: int, rule=None):
    """Meanwhile the model has so long a context, and positions close up by another rule."""
    with (
        mock.patch.object(session.family.text_config, "max_position_embeddings", context),
        mock.patch.object(assemble, "closed_up", rule or assemble.closed_up),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--questions", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    context = A_FRAME * args.frames
    settings = ["model.device=cpu", "model.dtype=float32", "preset=paper", f"media.num_frames={args.frames}"]
    session = load(config=resolve("tiny", settings=settings, environ={}))
    packed = session.under(resolve("tiny", settings=[*settings, "positions=packed"], environ={}))
    answer = session.config.generation.max_tokens
    fewer = (context - answer - WHOLE) // WHOLE  # a frame's place for the text
    ways = {
        LONG: (session, 2 * context, None),
        "closed up, in proportion": (session, context, None),
        "closed up, the longest first": (session, context, longest_first),
        "packed": (packed, context, None),
        f"{fewer} frames": (session.updated([f"num_frames={fewer}"]), context, None),
    }
    if args.frames > FRAMES:
        ways[f"{FRAMES} frames"] = session.updated([f"num_frames={FRAMES}"]), context, None
    right: dict[str, list[bool]] = {way: [] for way in ways}
    for sample in questions(TASKS, args.questions):
        clip = [frame for frame in sample.videos[0] for _ in range(args.frames // FRAMES)]
        for way, (own, length, rule) in ways.items():
            with asked_with(own, length, rule):
                text = own.ask(sample.prompt, videos=[clip]).text
            right[way].append(bool(is_right(text, sample.answer, sample.choices)))
    print(f"| {args.questions} questions, {args.frames} frames | accuracy % | change | {' | '.join(TASKS)} |")
    print(f"| --- | --- | --- |{' --- |' * len(TASKS)}")
    for way, hits in right.items():
        change = paired_difference(right[LONG], hits)
        cells = [
            interval(share(sum(hits), len(hits))),
            "-" if way == LONG else interval(change),
            *(
                f"{100 * sum(own) / len(own):.1f}"
                for own in (hits[n :: len(TASKS)] for n in range(len(TASKS)))
            ),
        ]
        print(f"| {way} | {' | '.join(cells)} |")


def interval(found) -> str:
    """A share or a difference in percent, with its bounds."""
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * x for x in (found.value, found.low, found.high)))


if __name__ == "__main__":
    main()
