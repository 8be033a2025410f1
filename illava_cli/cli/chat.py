"""`illava chat`: a conversation that goes on from the KV cache, at a terminal or from a pipe."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import typer

from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Images, ModelFlags, Videos, with_model_flags
from illava_cli.cli.output import emit_answer
from illava_cli.errors import IllavaError, UsageError
from illava_cli.interrupts import Interrupts
from illava_cli.text import harmless

if TYPE_CHECKING:
    from illava_cli.cli.lines import ReadLine
    from illava_cli.cli.repl import Repl


@with_model_flags
def chat(image: Images = None, video: Videos = None, *, flags: ModelFlags) -> None:
    """Talk about images and videos; /help lists the commands.

    With piped stdin each line is a question or a command, and the exit code is that of the last failure.
    """
    from illava_cli.media import expand_sources

    images, videos = image or [], video or []
    if "-" in images + videos:
        raise UsageError("chat reads its questions from stdin: name files for the media")
    images, videos = expand_sources(images), expand_sources(videos)
    config = flags.config()
    messages = Messages(flags.quiet)
    session = load(config, messages)
    from illava_cli.cli import lines, repl

    conversation = repl.Repl(session, messages, emit_answer)
    interactive = lines.is_interactive()
    if interactive:
        messages.say(f"{config.model.id}, preset {config.preset}. /help lists commands, Ctrl-D leaves.")
    for kind, sources in (("image", images), ("video", videos)):
        if sources:
            conversation.attach(kind, sources)
    read = lines.reader(list(repl.COMMANDS), list(repl.settable(config)))
    code = (talk if interactive else follow)(conversation, read)
    if code:
        raise typer.Exit(code)


def talk(conversation: Repl, read: ReadLine) -> int:
    """Questions from someone at a terminal, until they leave."""
    interrupted = False
    while not conversation.done:
        try:
            line = read()
        except EOFError:
            break
        except KeyboardInterrupt:
            if interrupted:
                break
            interrupted = True
            conversation.messages.show("(Ctrl-C again, Ctrl-D or /exit leaves)")
            continue
        interrupted = False
        try:
            with Interrupts() as interrupts:
                conversation.handle(line, interrupts.stop)
            if interrupts.signum == signal.SIGTERM:
                raise interrupts.ending()
            if interrupts.stop.is_set():
                conversation.messages.say("(stopped)")
        except KeyboardInterrupt:
            conversation.messages.show("\n(stopped; this turn is dropped)")
        except IllavaError as error:
            report(error)
    return 0


def follow(conversation: Repl, read: ReadLine) -> int:
    """Lines of a pipe, to its end; what fails is reported and the rest goes on."""
    code = 0
    while not conversation.done:
        try:
            line = read()
        except EOFError:
            break
        except IllavaError as error:
            report(error)
            code = error.exit_code
            continue
        try:
            with Interrupts() as interrupts:
                conversation.handle(line, interrupts.stop)
        except IllavaError as error:
            report(error)
            code = error.exit_code
        else:
            if interrupts.stop.is_set():  # nobody is at a prompt to go on with
                raise interrupts.ending()
    return code


def report(error: IllavaError) -> None:
    """One line on stderr; the conversation goes on."""
    print(harmless(f"illava: error: {error}"), file=sys.stderr, flush=True)
