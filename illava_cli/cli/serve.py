"""`illava serve`: a server in the form of OpenAI's API, with a page to try it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illava_cli.cli.engines import Engine, check_engine, passed_on, tell_changes
from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import ModelFlags, with_model_flags
from illava_cli.cli.workers import cores
from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.serve.settings import ServeOptions

PACKAGES = ("fastapi", "fastapi_offline", "prometheus_client", "uvicorn")
KEY_VARIABLE = "ILLAVA_API_KEY"
ANYONE = "warning: anyone who reaches this address may ask: --api-key KEY keeps others out"
OWN = (  # parameters of our own server
    "max_tokens",  # a default there; what vLLM is told bounds all requests
    "api_key_file",
    "max_concurrency",
    "max_queue",
    "cache_tokens",
    "chunk",
    "conversation_mb",
    "threads",
    "request_timeout",
    "drain_timeout",
    "readers",
    "media_memory",
    "media_root",
    "allow_hosts",
    "allow_private_media",
    "max_body",
    "max_media",
    "max_parts",
    "max_frames",
    "cors_origin",
)


@with_model_flags(without=("start", "end"))
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="0 = a free one.", min=0, max=65535)
    ] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", metavar="KEY", help="Opens the server; repeats (also $ILLAVA_API_KEY)."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", metavar="FILE", help="Keys that open it, one a line.")
    ] = None,
    served_name: Annotated[
        str, typer.Option("--served-name", metavar="NAME", help="The model's name in answers.")
    ] = "",
    max_concurrency: Annotated[
        int | None, typer.Option("--max-concurrency", metavar="N", help="Answers at a time.", min=1)
    ] = None,
    max_queue: Annotated[
        int, typer.Option("--max-queue", metavar="N", help="Requests that may wait; beyond: 429.", min=0)
    ] = 64,
    cache_tokens: Annotated[
        int | None,
        typer.Option("--cache-tokens", metavar="N", help="Tokens that all KV caches may hold.", min=1),
    ] = None,
    chunk: Annotated[
        int, typer.Option("--chunk", metavar="N", help="Tokens of a prompt between two steps.", min=1)
    ] = 512,
    conversation_mb: Annotated[
        int, typer.Option("--conversation-mb", metavar="N", help="KV caches to go on from.", min=0)
    ] = 1024,
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", help="CPU threads of a pass.", min=1),
    ] = None,
    request_timeout: Annotated[
        float, typer.Option("--request-timeout", metavar="S", help="Seconds for a request.", min=0.1)
    ] = 600.0,
    drain_timeout: Annotated[
        float, typer.Option("--drain-timeout", metavar="S", help="Seconds to finish after SIGTERM.", min=0)
    ] = 60.0,
    readers: Annotated[
        int, typer.Option("--readers", metavar="N", help="Processes that read media.", min=1)
    ] = 2,
    media_memory: Annotated[
        int, typer.Option("--media-memory", metavar="MIB", help="Memory of each of them.", min=256)
    ] = 4096,
    media_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--media-root",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="file:// may name what lies below; repeats.",
        ),
    ] = None,
    allow_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-hosts", metavar="HOST", help="Media from there, though private; repeats."),
    ] = None,
    allow_private_media: Annotated[
        bool, typer.Option("--allow-private-media", help="Media from any host, also inner ones.")
    ] = False,
    max_body: Annotated[int, typer.Option("--max-body", metavar="MIB", help="Largest request.", min=1)] = 64,
    max_media: Annotated[
        int, typer.Option("--max-media", metavar="MIB", help="Largest picture or clip.", min=1)
    ] = 64,
    max_parts: Annotated[
        int, typer.Option("--max-parts", metavar="N", help="Media in a request.", min=0)
    ] = 64,
    max_frames: Annotated[
        int, typer.Option("--max-frames", metavar="N", help="Frames of a clip.", min=1)
    ] = 256,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", metavar="URL", help="Whose pages may read answers; repeats."),
    ] = None,
    engine: Engine = "illava",
    *,
    flags: ModelFlags,
) -> None:
    """Answer over HTTP, in the form of OpenAI's API, with a page.

    Requests may say how much of a picture they pay for: preset, keep, method,
    num_frames, fps, max_tiles, max_pixels, video_budget. The first SIGTERM or
    Ctrl-C lets what is in flight end, the second ends the server at once.
    """
    check_engine(engine, context, OWN)
    if engine == "vllm":
        return _become_vllm(flags, served_name, (host, port), [*(api_key or [])], passed_on(context))
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f'serve needs {", ".join(missing)}: pip install "illava[serve]"')
    messages = Messages(flags.quiet)
    config = flags.config()
    keys = [*(api_key or []), *filter(None, [os.environ.get(KEY_VARIABLE)])]
    from illava_cli.media.access import Access
    from illava_cli.openai.asked import Bounds
    from illava_cli.serve.gate import Gate, names_of
    from illava_cli.serve.keys import Keys, read_keys
    from illava_cli.serve.settings import ServeOptions

    if api_key_file is not None:
        keys += read_keys(api_key_file)
    options = ServeOptions(
        host=host,
        port=port,
        name=served_name or flags.model or "",
        rows=max_concurrency,
        queue=max_queue,
        chunk=chunk,
        cache_tokens=cache_tokens,
        request_s=request_timeout,
        drain_s=drain_timeout,
        readers=readers,
        media_s=config.media.media_timeout,
        media_memory_mb=media_memory,
        conversations_mb=conversation_mb,
        access=Access(
            allow_hosts=tuple(allow_hosts or ()),
            allow_private=allow_private_media,
            roots=tuple(map(str, media_root or ())),
            max_bytes=max_media << 20,
        ),
        bounds=Bounds(max_parts=max_parts, max_frames=max_frames, temperature=config.generation.temperature),
        gate=Gate(
            keys=Keys(keys), names=names_of(host), origins=tuple(cors_origin or ()), max_body=max_body << 20
        ),
    )
    _serve(options, config, threads, messages)


def _become_vllm(
    flags: ModelFlags, name: str, place: tuple[str, int], keys: list[str], rest: list[str]
) -> None:
    """vLLM's server in this program's place."""
    from illava_cli.serve.listening import bound
    from illava_cli.vllm import server

    messages, config = Messages(flags.quiet), flags.config()
    if (own := os.environ.get(KEY_VARIABLE)) is not None:
        if keys:  # vLLM reads a variable only where it is given no key
            raise UsageError(
                f"--api-key and ${KEY_VARIABLE}: the engine vllm takes one of them: leave one out"
            )
        os.environ.setdefault(server.KEY_VARIABLE, own)  # the command line is for all to see
    name, (host, port) = name or flags.model or str(config.model.id), place
    place = host, port or server.free_port()
    command = server.server_command(config, name, place, rest, messages.note, keys)
    from illava_cli.serve.gate import names_of  # brings what comes with vLLM

    bound(*place).close()  # else it would be told after minutes, at length
    tell_changes(config, messages.note)
    shown = f"[{host}]" if ":" in host else host
    messages.say(f"illava: starting vLLM, which will serve {name} at http://{shown}:{place[1]}/v1")
    if not keys and own is None and not names_of(host):
        messages.note(ANYONE)
    server.become(command)


def _serve(options: ServeOptions, config: Config, threads: int | None, messages: Messages) -> None:
    from illava_cli.serve.listening import bound

    listening = bound(options.host, options.port)
    with listening:
        session = load(config, messages)
        import torch

        if threads or session.family.device.type == "cpu":
            # tower and passes run side by side, and one thread that waits for a core holds up all of its pass
            torch.set_num_threads(threads or max(1, cores() // 2))
        from illava_cli.serve.app import create_app
        from illava_cli.serve.logs import log_to_stderr
        from illava_cli.serve.run import run

        app = create_app(session, options)
        host, port = listening.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # all addresses: one that leads here
        shown = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        log_to_stderr(messages.quiet)
        if not options.gate.keys and options.gate.names is None:
            messages.note(ANYONE)
        run(
            app,
            listening,
            options,
            lambda: messages.say(
                f"illava: {shown}/ is a page to try it, {shown}/v1 the base URL for OpenAI's clients"
            ),
            lambda: messages.say("illava: ending after what is in flight; a second signal ends at once"),
        )
