"""Merging inside vLLM against stock vLLM: the same requests, one engine after another.

    .venv-vllm/bin/python scripts/bench_vllm.py --work runs/vllm-bench --eager   # on a CPU, 15 minutes
    python scripts/bench_vllm.py --work runs/vllm-bench --architecture llava-onevision-7b --at-once 64

Random weights of a real architecture, written as a checkpoint. Each request has a picture of its own. All are
handed over at once, and vLLM answers so many at a time; the time to the first token is of requests that are
alone. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from illava_cli.bench.machine import describe
from illava_cli.config.options import ModelOptions
from illava_cli.config.settings import Config
from illava_cli.models.loading import TOKENIZERS, random_family
from illava_cli.vllm.launch import engine_settings

STOCK = "stock"
PROMPT = "What is this?"
TOKENS = 16  # of an answer


@dataclass(frozen=True)
class Measured:
    """Of one engine: tokens of a prompt, requests a second, and seconds to the first token (the median)."""

    tokens: int
    rate: float
    first: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--architecture", default="llava-onevision-0.5b")
    parser.add_argument("--engine", action="append", help=f"{STOCK} or a preset; repeats")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--alone", type=int, default=5, help="requests for the time to the first token")
    parser.add_argument("--edge", type=int, default=384, help="pixels along the square pictures")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    args = parser.parse_args()
    folder = args.work / args.architecture
    if not folder.exists():
        write(args.architecture, folder)
    rng = np.random.default_rng(0)
    made = [picture(rng, args.edge) for _ in range(args.requests + args.alone + 1)]
    rows = {name: measured(name, folder, made, args) for name in args.engine or (STOCK, "off", "auto")}
    machine = describe()
    print(f"`{args.architecture}`, random weights, {args.dtype}, {args.requests} requests of one picture ")
    print(f"({args.edge}x{args.edge}), {args.at_once} at a time, {TOKENS} tokens each. {machine['cpu']},")
    print(f"{machine['cores']} cores, torch {machine['torch']}, transformers {machine['transformers']}.\n")
    print("| | tokens in the cache, a prompt | requests/s | | first token, alone | |")
    print("|---|---|---|---|---|---|")
    base = next(iter(rows.values()))
    for name, row in rows.items():
        faster, sooner = row.rate / base.rate, base.first / row.first
        print(
            f"| {name} | {row.tokens} | {row.rate:.3f} | {faster:.2f}x | {row.first:.2f} s | {sooner:.2f}x |"
        )


def picture(rng: np.random.Generator, edge: int) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return coarse.resize((edge, edge), Image.Resampling.BICUBIC)


def write(architecture: str, folder: Path) -> None:
    """A checkpoint under the names of weights that the hub has, and stock vLLM knows."""
    options = ModelOptions(id=f"random:{architecture}")
    family = random_family(options, torch.device("cpu"), torch.bfloat16, "sdpa")
    files = TOKENIZERS / family.tokenizer_folder()
    shutil.copytree(files, folder)
    plain = type(family.model)(family.model.config).to(torch.bfloat16)
    plain.load_state_dict(family.model.state_dict())
    plain.save_pretrained(folder)
    config = family.model.config
    tokens = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    about = {"num_image_tokens": tokens, "vision_feature_select_strategy": "full"}  # stock vLLM counts by it
    said = json.loads((folder / "preprocessor_config.json").read_text())["processor_class"]
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": said, **about}))
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        old, new = "vision_tower.", "vision_tower.vision_model."
        renamed = {k.replace(old, new, 1) if k.startswith(old) else k: v for k, v in weights.items()}
        save_file(renamed, path, metadata={"format": "pt"})


def measured(name: str, folder: Path, made: list[Image.Image], args: argparse.Namespace) -> Measured:
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    own = {"model": str(folder)}
    if name != STOCK:
        own = engine_settings(Config.model_validate({"model": {"id": str(folder)}, "preset": name}))
    engine = LLM(
        **own,
        dtype=args.dtype,
        max_model_len=8192,
        max_num_seqs=args.at_once,
        enforce_eager=args.eager,
        enable_prefix_caching=False,
        limit_mm_per_prompt={"image": 1, "video": 0},
        seed=0,
    )
    text = f"<|im_start|>user <image>\n{PROMPT}<|im_end|><|im_start|>assistant\n"
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    single = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)

    def asked(pictures: list[Image.Image], how: SamplingParams) -> list:
        requests = [{"prompt": text, "multi_modal_data": {"image": one}} for one in pictures]
        return engine.generate(requests, how, use_tqdm=False)

    warm, alone, rest = made[0], made[1 : 1 + args.alone], made[1 + args.alone :]
    (answer,) = asked([warm], sampling)
    first = []
    for one in alone:
        begun = time.perf_counter()
        asked([one], single)
        first.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    asked(rest, sampling)
    seconds = time.perf_counter() - begun
    engine.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()
    return Measured(len(answer.prompt_token_ids), len(rest) / seconds, statistics.median(first))


if __name__ == "__main__":
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # on a CPU; without them a worker on a small machine does not start
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")  # GiB
    main()
