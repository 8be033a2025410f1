"""`illava batch`: the same questions about many files, in a run that can be stopped and goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.engines import Engine, check_engine, passed_on
from illava_cli.cli.messages import FAILED, SHOWN, Messages
from illava_cli.cli.options import ModelFlags, check_format, with_model_flags
from illava_cli.cli.output import check_target, emit_answer, make_folder, write_file
from illava_cli.cli.progress import Tally, progress
from illava_cli.cli.server import Concurrency, ServerFlags, ServerKey, ServerModel, ServerUrl
from illava_cli.cli.workers import Plan, open_workers
from illava_cli.errors import IllavaError, UsageError
from illava_cli.interrupts import Interrupts

if TYPE_CHECKING:
    from illava_cli.batch.item import Item
    from illava_cli.batch.journal import Journal
    from illava_cli.batch.writers import Writer
    from illava_cli.config.settings import Config

# parameters of our own engine, or of a server that runs already
OWN = (
    "workers",
    "batch_size",
    "readers",
    "ray_address",
    "replicas",
    "server",
    "server_key",
    "server_model",
    "concurrency",
)
FORMATS = ("jsonl", "csv", "openai")
RECORDS = "records.jsonl"  # the journal of --out-dir


@dataclass(frozen=True)
class Targets:
    """Where records go: the journal's path, None on stdout; and what is written beside it."""

    journal: Path | None
    lines: Path | None = None
    folder: Path | None = None
    format: str = "jsonl"


@with_model_flags
def batch(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, folders, globs, - (paths on stdin), manifests."),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Option("-p", "--prompt", metavar="TEXT", help="The question; repeats: each asks every file."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Append records; a rerun goes on.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out-dir", metavar="DIR", help="Write a text file for each answer.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="jsonl|csv|openai", help="Form of FILE (default: by its name)."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also folders in folders.")] = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="Paths on stdin end with NUL.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget the answers that are there.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again what failed.")] = False,
    on_error: Annotated[
        str, typer.Option("--on-error", metavar="skip|stop", help="What a failure does to the run.")
    ] = "skip",
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", help="Seconds to read an item, and to answer it."),
    ] = None,
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N|auto", help="Questions in one pass of the model.")
    ] = "auto",
    readers: Annotated[
        int | None,
        typer.Option("--readers", metavar="N", min=0, help="Processes that read ahead (default: by cores)."),
    ] = None,
    num_shards: Annotated[
        int, typer.Option("--num-shards", metavar="N", min=1, help="Split the items into N parts.")
    ] = 1,
    shard_index: Annotated[
        int, typer.Option("--shard-index", metavar="I", min=0, help="Do part I, from 0.")
    ] = 0,
    workers: Annotated[
        str, typer.Option("--workers", metavar="local|ray", help="Answer here, or in replicas on Ray.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", metavar="ADDRESS", help="Cluster (default: $RAY_ADDRESS, or its own)."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", metavar="N", min=1, help="On Ray (default: by GPUs, else by CPUs)."),
    ] = None,
    server: ServerUrl = None,
    server_key: ServerKey = None,
    server_model: ServerModel = None,
    concurrency: Concurrency = None,
    engine: Engine = "illava",
    *,
    flags: ModelFlags,
) -> None:
    """Ask about many files, and write an answer for each.

    A folder's images and videos are asked one by one. A manifest (JSONL or CSV)
    names image(s) or video(s), prompt and id for each question, and any setting
    such as max_tokens; OpenAI's batch files work too. What is answered is not
    asked again when the same command runs again. Exit 3 where items failed.
    """
    targets = _targets(output, out_dir, format)
    if on_error not in ("skip", "stop"):
        raise UsageError(f"--on-error {on_error!r}: expected skip or stop")
    from illava_cli.config.options import LONGEST_S

    if timeout is not None and not 0 < timeout <= LONGEST_S:
        raise UsageError(f"--timeout {timeout:g}: must be more than 0 seconds, and at most {LONGEST_S}")
    asked = ServerFlags.of(server, server_key, server_model, concurrency, timeout)
    check_engine(engine, context, OWN)
    served = flags.config() if engine == "vllm" else None
    plan = Plan(
        workers,
        _batch_size(batch_size),
        readers,
        timeout,
        ray_address,
        replicas,
        asked,
        served,
        passed_on(context),
    )
    if shard_index >= num_shards:
        raise UsageError(f"--shard-index {shard_index}: must be less than --num-shards {num_shards}")
    if (overwrite or retry_failed) and targets.journal is None:
        raise UsageError("--overwrite and --retry-failed are for a file: name one with -o")
    messages = Messages(flags.quiet)
    items = _read(inputs, prompt or [], recursive, null, messages)
    if num_shards > 1:
        items = [item for item in items if item.shard(num_shards) == shard_index]
    if served is not None:
        from illava_cli.batch.remote import check
        from illava_cli.client.settings import InVllm

        check(items, config := InVllm.of(served, flags.model or str(served.model.id), plan.passed))
    elif asked is None:
        config = flags.config()
    else:
        from illava_cli.batch.remote import check

        check(items, config := asked.named(flags).config(flags))
    from illava_cli.batch.journal import Journal

    _make_folders(targets)
    with Journal(targets.journal, overwrite=overwrite) as journal:
        pending = journal.plan(items, config, retry_failed=retry_failed)
        with _writers(targets, journal, items) as writers:
            if pending:
                tally = _ask(
                    config,
                    items,
                    pending,
                    journal,
                    writers,
                    messages,
                    plan=plan,
                    on_error=on_error,
                )
            else:
                for writer in writers:
                    writer.restore(journal.records())
        failed = journal.failed(items)
    if not pending:
        messages.say(f"illava: nothing to ask: {len(items)} of {len(items)} items have a record")
    failed_now = tally.failed if pending else 0
    _tell_failures(failed, failed_now=failed_now, can_retry=targets.journal is not None, messages=messages)


def _targets(output: Path | None, out_dir: Path | None, format: str | None) -> Targets:
    if out_dir is not None:
        if output is not None or format is not None:
            raise UsageError("--out-dir writes text files and its own records: leave out -o and --format")
        return Targets(out_dir / RECORDS, folder=out_dir, format="text")
    by_name = "csv" if output is not None and output.suffix.lower() == ".csv" else "jsonl"
    format = check_format(format or by_name, FORMATS)
    if output is None or str(output) == "-":
        if format != "jsonl":
            raise UsageError(f"--format {format} goes to a file: name it with -o")
        return Targets(None)
    if format == "jsonl":
        return Targets(output)
    return Targets(output.with_name(f"{output.name}.records"), lines=output, format=format)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size {text!r}: expected a number from 1 on, or auto")
    return int(text)


def _read(
    inputs: list[str], prompts: list[str], recursive: bool, null: bool, messages: Messages
) -> list[Item]:
    if any(not prompt.strip() for prompt in prompts):
        raise UsageError("--prompt is empty: say what is asked")
    from illava_cli.batch.inputs import read_inputs

    return read_inputs(
        inputs,
        prompts,
        recursive=recursive,
        stdin=sys.stdin.buffer if sys.stdin is not None else None,
        separator=b"\0" if null else b"\n",
        on_note=messages.note,
    )


def _make_folders(targets: Targets) -> None:
    """The folder of --out-dir may be new; that of a file must be there."""
    if targets.folder is not None:
        make_folder(targets.folder)
    for path in (targets.journal, targets.lines):
        if path is not None:
            check_target(path)


@contextmanager
def _writers(targets: Targets, journal: Journal, items: Sequence[Item]) -> Iterator[list[Writer]]:
    """What is written beside the journal."""
    from illava_cli.batch.writers import FolderWriter, LineWriter, StreamWriter

    with ExitStack() as stack:
        if targets.journal is None:
            yield [StreamWriter(emit_answer)]
        elif targets.folder is not None:
            folder = FolderWriter(targets.folder, write_file, items if journal.overwrite else ())
            folder.check(items)
            if not journal.overwrite:
                folder.refuse_others(item for item in items if item.id not in journal.entries)
            yield [folder]
        elif targets.lines is not None:
            there = targets.lines.exists() and targets.lines.stat().st_size
            if there and not journal.entries and not journal.overwrite:
                raise UsageError(
                    f"{targets.lines} is there, and no records of it in {targets.journal}: "
                    "name another file, or give --overwrite"
                )
            yield [stack.enter_context(closing(LineWriter(targets.lines, targets.format)))]
        else:
            yield []


def _ask(
    config: Config,
    items: list[Item],
    pending: list[Item],
    journal: Journal,
    writers: list[Writer],
    messages: Messages,
    *,
    plan: Plan,
    on_error: str,
) -> Tally:
    """The run itself.

    Raises:
        IllavaError: it was to end at a failure, and did.
        KeyboardInterrupt, Terminated: a signal ended it.
    """
    skipped = len(items) - len(pending)
    if skipped:
        messages.say(f"illava: {skipped} of {len(items)} items have a record and are not asked again")
    from illava_cli.batch.runner import Leave, run

    first_failure: dict[str, Any] = {}
    interrupts = Interrupts(at_once=False)
    shown = journal.path is None and sys.stdout is not None and sys.stdout.isatty()
    try:
        with (
            open_workers(plan, config, pending, interrupts.stop, messages) as workers,
            interrupts,
            progress(len(pending), messages, bar=not shown) as tally,
        ):

            def on_record(record: dict[str, Any]) -> None:
                tally.add(record)
                messages.notes(record.get("notes", ()))
                if record["status"] == "error":
                    first_failure.setdefault("record", record)
                    if tally.failed <= SHOWN:
                        messages.show(f"illava: {_told(record)}")

            def on_signal() -> None:
                messages.say("illava: stopping after what is in flight; a second signal leaves at once")

            told = {"on_record": on_record, "on_signal": on_signal}
            run(workers.answer, pending, journal, writers, interrupts, on_error=on_error, **told)
    except Leave:
        messages.show("illava: stopped at once; what was in flight is asked again by the next run")
        interrupts.exit()
    if interrupts.signum is not None:
        again = f"; the same command goes on (records: {journal.path})" if journal.path else ""
        messages.show(f"illava: stopped after {tally.done} of {len(pending)} items{again}")
        raise interrupts.ending()
    if first_failure and on_error == "stop":
        raise IllavaError(f"stopped at a failure: {_told(first_failure['record'])}")
    said = filter(None, [tally.line(left=False), workers.told()])
    messages.say(f"illava: {' | '.join(said)}")
    return tally


def _told(record: dict[str, Any]) -> str:
    """A failure, with the item's name where its message does not begin with it."""
    id, message = record["id"], record["error"]["message"]
    return message if message.startswith(id) else f"{id}: {message}"


def _tell_failures(failed: int, *, failed_now: int, can_retry: bool, messages: Messages) -> None:
    """Says what failed.

    Raises:
        typer.Exit: something did.
    """
    if not failed:
        return
    earlier = f" ({failed - failed_now} in an earlier run)" if failed > failed_now else ""
    again = "; --retry-failed asks again" if can_retry else ""
    messages.show(f"illava: {failed} item{'' if failed == 1 else 's'} failed{earlier}{again}")
    raise typer.Exit(FAILED)
