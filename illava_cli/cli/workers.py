"""Who answers the items of a batch: a model in this program, replicas of it on Ray, or a server elsewhere."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import DEBUG_VARIABLE
from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.batch.item import Item
    from illava_cli.cli.server import ServerFlags
    from illava_cli.config.settings import Config

KINDS = ("local", "ray")
AT_ONCE = 64  # questions that a server of vLLM's is asked: it makes its batches itself
MOST_READERS = 4


@dataclass(frozen=True)
class Plan:
    """Who answers, and how.

    Args:
        kind: one of `KINDS`.
        batch_size, readers, timeout: as in `batch.worker.Options`; `readers` by default by cores.
        address, replicas: of Ray.
        asked: the server, where one answers.
        served: the model that a server of vLLM's runs for this command, where one does.
        passed: further arguments for it.
    """

    kind: str = "local"
    batch_size: int | None = None
    readers: int | None = None
    timeout: float | None = None
    address: str | None = None
    replicas: int | None = None
    asked: ServerFlags | None = None
    served: Config | None = None
    passed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"--workers {self.kind!r}: expected {' or '.join(KINDS)}")
        if self.kind != "ray" and (self.address is not None or self.replicas is not None):
            raise UsageError("--ray-address and --replicas go with --workers ray")
        if self.passed:
            from illava_cli.vllm.server import NOT_ASKED, refuse_flags

            refuse_flags(
                self.passed, NOT_ASKED, "{flag} {why}, where a batch asks this machine: leave it out"
            )
        if self.asked is None:
            return
        if self.kind == "ray" or self.batch_size is not None or self.readers is not None:
            raise UsageError("--server asks a server: leave out --workers, --batch-size and --readers")


@dataclass(frozen=True)
class Workers:
    """`answer` turns items into records; `told` says afterwards how that went, or nothing."""

    answer: Callable[[Sequence[Item]], Iterator[dict[str, Any]]]
    told: Callable[[], str]


@contextmanager
def open_workers(
    plan: Plan, config: Config, pending: Sequence[Item], stop: Event, messages: Messages
) -> Iterator[Workers]:
    """Workers that are ready to answer `pending`, until `stop` is set.

    Raises:
        IllavaError: the model, or the cluster, cannot be had.
    """
    opened = _on_ray if plan.kind == "ray" else _local
    if plan.served is not None:
        opened = _in_vllm
    elif plan.asked is not None:
        opened = _remote
    with opened(plan, config, pending, stop, messages) as workers:
        yield workers


@contextmanager
def _local(
    plan: Plan, config: Config, pending: Sequence[Item], stop: Event, messages: Messages
) -> Iterator[Workers]:
    session = load(config, messages)
    from illava_cli.batch.worker import Options, Worker

    readers = _readers(plan, cores())
    worker = Worker(session, Options(plan.batch_size, readers, plan.timeout), stop)
    where = f"in {readers} process{'' if readers == 1 else 'es'}" if readers else "in a thread"

    def told() -> str:
        return f"reading took {worker.read_s:.1f} s {where}, the model waited {worker.waited_s:.1f} s for it"

    yield Workers(worker.answer, told)


@contextmanager
def _remote(
    plan: Plan, config: Config, pending: Sequence[Item], stop: Event, messages: Messages
) -> Iterator[Workers]:
    from illava_cli.batch.remote import RemoteWorker

    asked = plan.asked
    with asked.client(stop) as client:
        messages.say(
            f"illava: asking {config.model.id} at {client.server.url}, {asked.concurrency} at a time"
        )
        worker = RemoteWorker(config, client, asked.concurrency, stop)
        yield Workers(
            worker.answer, lambda: f"{client.retries} tries were made again" if client.retries else ""
        )


@contextmanager
def _in_vllm(
    plan: Plan, config: Config, pending: Sequence[Item], stop: Event, messages: Messages
) -> Iterator[Workers]:
    from illava_cli.cli.engines import tell_changes
    from illava_cli.cli.server import ServerFlags
    from illava_cli.client.settings import HERE
    from illava_cli.config.options import GenerationOptions, MediaOptions
    from illava_cli.vllm.server import free_port, running, server_command

    port, key = free_port(), secrets.token_urlsafe()
    place = "127.0.0.1", port
    # each request says how it is to be decoded, and media are read here
    media = MediaOptions(**plan.served.media.model_dump(exclude_unset=True, exclude={*HERE}))
    told = plan.served.model_copy(update={"generation": GenerationOptions(), "media": media})
    command = server_command(told, config.model.id, place, plan.passed, messages.note)
    tell_changes(plan.served, messages.note)
    messages.say("illava: starting vLLM")
    with running(command, port, key) as url:
        asked = ServerFlags(url, key, config.model.id, AT_ONCE, plan.timeout)
        with _remote(replace(plan, asked=asked), config, pending, stop, messages) as workers:
            yield workers


@contextmanager
def _on_ray(
    plan: Plan, config: Config, pending: Sequence[Item], stop: Event, messages: Messages
) -> Iterator[Workers]:
    from illava_cli.batch.on_ray.cluster import cluster
    from illava_cli.batch.on_ray.shares import share_out

    with ExitStack() as stack:
        with messages.loading("Ray"):
            debug = bool(os.environ.get(DEBUG_VARIABLE))
            nodes = stack.enter_context(cluster(plan.address, debug=debug))
            from illava_cli.batch.on_ray.pool import Pool, refuse_pipes
            from illava_cli.batch.on_ray.replica import LOADS, Setup
        refuse_pipes(pending)
        share = share_out(
            nodes,
            replicas=plan.replicas,
            device=config.model.device,
            spread=config.model.device_map is not None,
        )
        messages.say(f"illava: Ray: {share}")
        setup = Setup(
            config,
            plan.batch_size,
            _readers(plan, share.cpus),
            plan.timeout,
            folder=os.getcwd(),
            threads=max(1, share.cpus),
            loads=LOADS * share.replicas,
        )
        pool = Pool(setup, share, stop, on_note=messages.note)
        yield Workers(pool.answer, lambda: f"Ray: {share}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _readers(plan: Plan, cores: int) -> int:
    return min(MOST_READERS, max(1, cores - 1)) if plan.readers is None else plan.readers
