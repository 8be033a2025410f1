"""The class that the harness calls."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from illava_cli.engine.opening import load
from illava_cli.engine.record import Generation
from illava_cli.errors import IllavaError, UsageError
from illava_cli.integrations.lmms import MISSING
from illava_cli.integrations.lmms.answering import Question, answer_all, stop_at
from illava_cli.integrations.lmms.arguments import batch_size as to_batch_size
from illava_cli.integrations.lmms.arguments import configuration
from illava_cli.integrations.lmms.decoding import generation_settings

try:
    from accelerate import Accelerator
    from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
    from lmms_eval.api.model import lmms
    from lmms_eval.models.model_utils.gen_metrics import log_metrics
    from loguru import logger
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(MISSING.format(error=error)) from None


@contextmanager
def _one_line() -> Iterator[None]:
    """Ends the program with one line and an exit code where the harness would print a traceback and go on."""
    try:
        yield
    except IllavaError as error:
        if os.environ.get("ILLAVA_DEBUG"):
            raise
        print(f"illava: error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


class Illava(lmms):
    """A session that answers the harness's requests.

    Args (`--model_args name=value,...`):
        batch_size: questions that share a pass (the harness's `--batch_size`).
        skip_errors: a question that cannot be answered counts as an empty answer, with a warning; else it
            ends the run.
        arguments: see `arguments.configuration`.
    """

    is_simple = False

    def __init__(
        self,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,  # the harness's, for `auto`
        skip_errors: bool = False,
        **arguments: Any,
    ):
        super().__init__()
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        parallel = self._world_size > 1 and self.accelerator.device.type == "cuda"
        if parallel and arguments.get("device") in (None, "auto", "cuda"):
            arguments["device"] = f"cuda:{self.accelerator.local_process_index}"
        with _one_line():
            self.batch_size = to_batch_size(batch_size)
            self.session = load(config=configuration(arguments), on_note=logger.info)
        self.device = self.session.family.device
        self.skip_errors = bool(skip_errors)
        self._warned: set[str] = set()
        logger.info(f"illava: {self.session.describe()}")

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers in the order of the requests."""
        started = time.perf_counter()
        bar = tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding")
        with _one_line(), bar:
            questions = [self._question(request) for request in requests]
            failed = self._skip if self.skip_errors else stop_at
            answers = answer_all(self.session, questions, self.batch_size, bar.update, failed)
        self._log(answers, time.perf_counter() - started)
        return [
            GenerationResult("")
            if answer is None
            else GenerationResult(
                answer.text, TokenCounts(answer.usage.prompt_tokens, answer.usage.completion_tokens)
            )
            for answer in answers
        ]

    def _question(self, request: Instance) -> Question:
        _, doc_to_messages, options, doc_id, task, split = request.args

        def messages() -> Sequence[dict[str, Any]]:
            return doc_to_messages(self.task_dict[task][split][doc_id])

        return Question(f"{task} {split} {doc_id}", messages, generation_settings(options, self._warn_once))

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning(text)

    def _skip(self, id: str, error: IllavaError) -> None:
        logger.warning(f"{id} has no answer and counts as an empty one: {error}")

    def _log(self, answers: Sequence[Generation | None], seconds: float) -> None:
        """Speed and visual tokens, for the harness's report."""
        given = [answer.usage for answer in answers if answer is not None]
        tokens = sum(usage.completion_tokens for usage in given)
        count = max(len(given), 1)
        visual = {
            f"visual_{name}": sum(getattr(usage.visual, name) for usage in given) / count
            for name in ("patches", "vision_kept", "llm_in", "llm_kept")
        }
        log_metrics(
            total_elapsed_time=seconds,
            total_gen_tokens=tokens,
            avg_speed=tokens / seconds if seconds > 0 else 0.0,
            additional_metrics={"num_requests": len(answers), **visual},
        )

    def clean(self) -> None:
        """Gives the model's memory back, before a judge is started."""
        self.session = None
        super().clean()

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refused: a session writes answers, it does not score given ones."""
        self._refuse("loglikelihood")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refused: the harness's questions are answered one turn each."""
        self._refuse("generate_until_multi_round")

    def _refuse(self, kind: str) -> NoReturn:
        with _one_line():
            raise UsageError(
                f"illava answers generate_until requests, not {kind}: choose a task with that output_type"
            )
        raise AssertionError("unreachable")
