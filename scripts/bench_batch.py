"""What `illava batch` is worth on this machine: against a shell loop, by batch size, by readers, in memory.

    .venv/bin/python scripts/bench_batch.py                         # the embedded model, a few minutes
    .venv/bin/python scripts/bench_batch.py -m llava-onevision-7b --device cuda

Every figure is of the program as users start it, its start included, unless it says otherwise. Pictures
are made for it: small ones, and photographs of 12 megapixels, which take long to decode. Prints Markdown,
and last one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from illava_cli.bench.machine import describe

PROMPT = "What shape is the red one?"
LOOPED = 20  # calls of `illava run`; their time is scaled
READING = re.compile(r"reading took ([\d.]+) s .* the model waited ([\d.]+) s")


def pictures(folder: Path, count: int, width: int, height: int) -> Path:
    """A folder of JPEGs that all differ."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number:04}.jpg", quality=90)
    return folder


def resident(pid: int) -> float:
    """Megabytes that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1e3


class Bench:
    """Runs the program with the same flags throughout."""

    def __init__(self, flags: list[str], scratch: Path):
        self.program = [sys.executable, "-m", "illava_cli.cli.app"]
        self.flags, self.scratch = flags, scratch

    def loop(self, paths: list[Path]) -> float:
        """Seconds for one `illava run` after another."""
        started = time.perf_counter()
        for path in paths:
            command = [*self.program, "run", "--image", path, "-p", PROMPT, "-q", *self.flags]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    def batch(self, folder: Path, *options: str) -> dict[str, float]:
        """Seconds of a run, those spent reading and those waited for it, and items per second once loaded."""
        output = self.scratch / "out.jsonl"
        command = [*self.program, "batch", folder, "-p", PROMPT, "-o", output, "--overwrite", *options]
        started = time.perf_counter()
        done = subprocess.run([*command, *self.flags], check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        summary = done.stderr.splitlines()[-1]
        read_s, waited_s = map(float, READING.search(summary).groups())
        rate = float(re.search(r"([\d.e+]+)/s", summary).group(1))
        return {"seconds": seconds, "read_s": read_s, "waited_s": waited_s, "items_per_s": rate}

    def memory(self, folder: Path, count: int) -> list[tuple[int, float]]:
        """Megabytes after each tenth of a run."""
        output = self.scratch / "memory.jsonl"
        command = [*self.program, "batch", folder, "-p", PROMPT, "-o", output, "-q", *self.flags]
        process = subprocess.Popen(command)
        samples: list[tuple[int, float]] = []
        while process.poll() is None and len(samples) < 10:
            done = output.read_bytes().count(b"\n") if output.exists() else 0
            if done >= (len(samples) + 1) * count // 10 - 8:
                samples.append((done, resident(process.pid)))
            time.sleep(0.02)
        process.wait()
        return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--items", type=int, default=2000, help="of the run that memory is watched in")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    flags = ["-m", options.model, "--device", options.device]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        bench = Bench(flags, scratch)
        small = pictures(scratch / "small", options.images, 480, 360)
        large = pictures(scratch / "large", options.photos, 4000, 3000)
        many = pictures(scratch / "many", options.items, 160, 120)
        sized, read = ("--batch-size",), ("--readers",)
        steps = {
            "batch_1": lambda: best(bench, options.repeats, small, *sized, "1"),
            "batch_8": lambda: best(bench, options.repeats, small, *sized, "8"),
            "photos_thread": lambda: best(bench, options.repeats, large, *read, "0"),
            "photos_1_reader": lambda: best(bench, options.repeats, large, *read, "1"),
            "photos_2_readers": lambda: best(bench, options.repeats, large, *read, "2"),
            "memory_mb": lambda: bench.memory(many, options.items),
            "loop_s": lambda: bench.loop(sorted(small.iterdir())[:LOOPED]) * options.images / LOOPED,
        }
        result = {}
        for name, step in steps.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            result[name] = step()
    print(markdown(result, options))
    print(json.dumps({"machine": describe(), "options": vars(options)} | result))


def best(bench: Bench, repeats: int, folder: Path, *options: str) -> dict[str, float]:
    """The fastest of several runs: what else the machine does only ever adds."""
    return min((bench.batch(folder, *options) for _ in range(repeats)), key=lambda run: run["seconds"])


def markdown(result: dict, options: argparse.Namespace) -> str:
    """Tables of the result."""
    loop = result["loop_s"]
    lines = [
        f"| {options.images} pictures of 480x360 | whole run | against the loop | items/s once loaded |",
        "|---|---|---|---|",
        f"| `illava run` in a loop ({LOOPED}, scaled) | {loop:.0f} s | | |",
    ]
    for name, label in (("batch_1", "`--batch-size 1`"), ("batch_8", "`--batch-size 8`")):
        run = result[name]
        ratio = f"{loop / run['seconds']:.1f}x"
        lines.append(f"| {label} | {run['seconds']:.1f} s | {ratio} | {run['items_per_s']:.1f} |")
    lines += [
        "",
        f"| {options.photos} photos of 4000x3000 | whole run | reading | waited for it |",
        "|---|---|---|---|",
    ]
    for name, label in (
        ("photos_thread", "`--readers 0` (a thread)"),
        ("photos_1_reader", "`--readers 1`"),
        ("photos_2_readers", "`--readers 2`"),
    ):
        run = result[name]
        lines.append(
            f"| {label} | {run['seconds']:.1f} s | {run['read_s']:.1f} s | {run['waited_s']:.1f} s |"
        )
    lines += ["", "| items done | " + " | ".join(str(done) for done, _ in result["memory_mb"]) + " |"]
    lines.append("|---" * (len(result["memory_mb"]) + 1) + "|")
    lines.append("| resident MB | " + " | ".join(f"{mb:.0f}" for _, mb in result["memory_mb"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
