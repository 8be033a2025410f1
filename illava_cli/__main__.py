"""Where the program starts, as `illava` and as `python -m illava_cli`."""

from __future__ import annotations

from illava_cli.interrupts import ending_at_ctrl_c


def program() -> None:
    """`cli.app.program`; Ctrl-C while its parts are imported ends it with 130 and without a traceback."""
    with ending_at_ctrl_c():
        from illava_cli.cli import app
    app.program()


if __name__ == "__main__":
    program()
