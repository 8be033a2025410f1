"""Where the program starts, as `illava` and as `python -m illava_cli`."""

from __future__ import annotations

import os
import signal


def program() -> None:
    """`cli.app.program`; Ctrl-C while its parts are imported ends it with 130 and without a traceback."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from illava_cli.cli import app

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app.program()


if __name__ == "__main__":
    program()
