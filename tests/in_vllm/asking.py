"""The same questions asked of vLLM and of illava."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

from illava_cli import load
from illava_cli.config.settings import Config
from illava_cli.engine import prompt as prompts
from illava_cli.engine.session import Session
from illava_cli.vllm.launch import engine_settings
from tests.builders import WRITERS
from tests.conftest import clip, picture

HEADS = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64}
TOWERS = {"qwen2_vl": {"hidden_size": 128}, "qwen2_5_vl": {"out_hidden_size": 128}}
TOWERS |= dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), TOWERS["qwen2_5_vl"])
SECTIONS = {"rope_parameters": {"mrope_section": [12, 10, 10]}}
EXPERTS = {"norm_topk_prob": True}  # the hub's checkpoints say so
TOKENS, LIKELIEST = 6, 5  # of an answer, and of each


@dataclass(frozen=True)
class Question:
    """A prompt and its media."""

    prompt: str
    images: tuple = ()
    videos: tuple = ()
    metadata: tuple = ()  # of the videos, as pairs


SMALL, WIDE = picture(84, 84, 1), picture(112, 56, 2)
IMAGE = Question("What is this?", (SMALL,))
TWO = Question("Which one is it?", (SMALL, WIDE))
VIDEO = Question("Which way?", (), (clip(6, 84, 84),))


@dataclass(frozen=True)
class Said:
    """An answer: its tokens, and of each step the log-probabilities of the likeliest, from the highest on.

    Args:
        length: of the prompt.
        cached: tokens of it that were computed before.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[tuple[float, ...], ...]
    length: int = 0
    cached: int = 0


class Engines:
    """vLLM's engines, one at a time, on small checkpoints of each family with heads that its kernels know."""

    def __init__(self, folder: Path):
        self.folder, self.key, self.engine = folder, None, None

    def checkpoint(self, family: str) -> str:
        path = self.folder / family
        if not path.exists():
            text = HEADS | SECTIONS if family.startswith("qwen") else HEADS
            text = text | EXPERTS if family.endswith("moe") else text
            vision = {"vision_config": TOWERS[family]} if family in TOWERS else {}
            # names of weights that vLLM knows
            layout = {"layout": "old"} if family.startswith("llava") or family.endswith("moe") else {}
            WRITERS[family](path, text_config=text, **vision, **layout)
        return str(path)

    def of(self, family: str, settings: dict[str, Any], **arguments: Any) -> LLM:
        """The engine of a family under a configuration, as our launcher starts it."""
        return self.own(self.checkpoint(family), settings, **arguments)

    def own(self, checkpoint: str, settings: dict[str, Any], **arguments: Any) -> LLM:
        """That of a checkpoint."""
        config = Config.model_validate({"model": {"id": checkpoint}, **settings})
        return self._made((checkpoint, repr(settings)), engine_settings(config) | arguments)

    def stock(self, family: str, **arguments: Any) -> LLM:
        """vLLM's own model."""
        return self.stock_of(self.checkpoint(family), **arguments)

    def stock_of(self, checkpoint: str, **arguments: Any) -> LLM:
        """vLLM's own model of a checkpoint."""
        return self._made((checkpoint, "stock"), {"model": checkpoint} | arguments)

    def _made(self, key: tuple, arguments: dict[str, Any]) -> LLM:
        key = (*key, repr(sorted(arguments.items(), key=str)))
        if self.key != key:
            self.close()
            usual = {
                "dtype": "float32",
                "max_model_len": 2048,
                "max_num_seqs": 16,
                "enforce_eager": True,
                "distributed_executor_backend": "uni",
                "limit_mm_per_prompt": {"image": 3, "video": 1},
            }
            self.engine, self.key = LLM(**usual | arguments), key
        return self.engine

    def close(self) -> None:
        if self.engine is not None:
            self.engine.llm_engine.engine_core.shutdown()
            self.engine = self.key = None
            gc.collect()
            cleanup_dist_env_and_memory()

    def session(self, family: str, settings: dict[str, Any]) -> Session:
        """Ours."""
        checkpoint = self.checkpoint(family)
        return load(
            checkpoint,
            device="cpu",
            dtype="float32",
            max_tokens=TOKENS,
            logprobs=LIKELIEST,
            ignore_eos=True,
            **settings,
        )


def rendered(session: Session, question: Question) -> str:
    """The prompt as vLLM takes it."""
    family = session.family
    message = prompts.user_message(family, question.prompt, len(question.images), len(question.videos))
    text = family.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return text


def request(session: Session, question: Question, **wish: Any) -> dict[str, Any]:
    """What vLLM's `generate` takes."""
    media: dict[str, list] = {}
    if question.images:
        media["image"] = list(question.images)
    if question.videos:
        media["video"] = [
            (np.stack([np.asarray(frame) for frame in video]), dict(question.metadata or {}))
            for video in question.videos
        ]
    asked = {"prompt": rendered(session, question), "multi_modal_data": media}
    return asked | ({"mm_processor_kwargs": wish} if wish else {})


def answers(
    engine: LLM, session: Session, questions: Sequence[Question], wishes: Sequence[dict] = ()
) -> list[Said]:
    """What vLLM says, all asked at once, in tokens that ours may say."""
    wishes = wishes or [{}] * len(questions)
    requests = [request(session, one, **wish) for one, wish in zip(questions, wishes, strict=True)]
    spoken = (~session.family.unspoken).nonzero()[:, 0].tolist()
    sampling = SamplingParams(
        temperature=0, max_tokens=TOKENS, logprobs=LIKELIEST, ignore_eos=True, allowed_token_ids=spoken
    )
    found = []
    for out in engine.generate(requests, sampling, use_tqdm=False):
        (own,) = out.outputs
        decode = engine.get_tokenizer().decode
        tops = tuple(_top(one.logprob for one in step.values()) for step in own.logprobs)
        tokens = tuple(decode([token]) for token in own.token_ids)
        found.append(Said(tokens, tops, len(out.prompt_token_ids), out.num_cached_tokens or 0))
    return found


def _top(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(values, reverse=True)[:LIKELIEST])


def same(theirs: Said, ours: Said, tolerance: float = 1e-3) -> None:
    """Equal log-probabilities up to where answers part: at near ties."""
    steps = zip(theirs.logprobs, ours.logprobs, theirs.tokens, ours.tokens, strict=False)
    for number, (a, b, token, other) in enumerate(steps):
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=f"token {number}")
        if token != other:
            assert abs(a[0] - a[1]) < tolerance  # the likeliest two are as likely
            return


def illavas(session: Session, question: Question) -> Said:
    """What illava says."""
    answer = session.ask(question.prompt, images=question.images, videos=question.videos)
    tops = tuple(_top(one["logprob"] for one in step["top"]) for step in answer.logprobs)
    return Said(tuple(step["token"] for step in answer.logprobs), tops)
